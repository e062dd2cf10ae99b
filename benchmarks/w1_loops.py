"""W1 by hand: the mixture, the grids, and sampling loops in NumPy and in JAX without dfx.

The same rows of numbers drive every loop. A row is one step from level s to level t; with
S = sigma / alpha and h = log(S_s / S_t),

    ddpm    x <- a x + b D + c z         D = posterior mean at x, ancestral with the small variance
    ddim    x <- a x + b D
    dpmpp   x <- a x + b D + c D_old     second-order multistep in log-SNR (DPM-Solver++ 2M)
    heun    X = x / alpha_s, d = (X - D) / S_s: Euler to t, then the mean of both slopes

All arrays hold x either as (n, 2) or, where `last` is said, as (2, n), which vectorises over
particles.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

CENTRES = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)], np.float64)
STD = 0.1
ABAR = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
SIGMA_RATIO = np.sqrt((1 - ABAR) / ABAR)

#: Evaluations of the posterior mean in each case.
CASES = {"ddpm1000": 1000, "ddim50": 50, "dpmpp20": 20, "heun18": 35}

BLOCK = 1000
ROWS_A_DRAW = 20


def karras(n: int) -> np.ndarray:
    """Return n levels sigma / alpha with rho = 7 over the range of the table, then 0."""
    first, last = SIGMA_RATIO[[-1, 0]] ** (1 / 7)
    return np.append(np.linspace(first, last, n) ** 7, 0.0)


def ratios(case: str) -> np.ndarray:
    """Return the levels sigma / alpha of a case, from the noise to 0."""
    if case == "ddpm1000":
        return np.append(SIGMA_RATIO[::-1], 0.0)
    if case == "ddim50":
        return np.append(SIGMA_RATIO[980::-20], 0.0)
    return karras(20 if case == "dpmpp20" else 18)


def rows(case: str) -> dict[str, np.ndarray]:
    """Return the numbers of all steps of a case, each of shape (steps,)."""
    ratio = ratios(case)
    alpha = 1 / np.sqrt(1 + ratio**2)
    s, t, a_s, a_t = ratio[:-1], ratio[1:], alpha[:-1], alpha[1:]
    sigma_s, sigma_t = a_s * s, a_t * t
    common = {"alpha": a_s, "sigma": sigma_s}
    if case == "ddpm1000":
        keep = (t / s) ** 2
        return common | {
            "a": keep * a_t / a_s,
            "b": a_t * (1 - keep),
            "c": sigma_t * np.sqrt(1 - keep),
        }
    if case == "heun18":
        return common | {"S": s, "alpha_t": a_t, "sigma_t": sigma_t, "S_t": t}
    a = sigma_t / sigma_s
    b = a_t - a * a_s
    if case == "ddim50":
        return common | {"a": a, "b": b}
    with np.errstate(divide="ignore"):
        h = np.log(s / t)
    extra = np.zeros_like(b)
    extra[1:-1] = h[1:-1] / (2 * h[:-2])  # first order in the first and in the last step
    return common | {"a": a, "b": b * (1 + extra), "c": -b * extra}


def posterior_mean(x, alpha, sigma, xp=jnp, last=False):
    """Return E[x0 | x] of the mixture: one exp, then one product for numerator and denominator."""
    x = x if last else x.T
    centres = CENTRES.astype(x.dtype)
    variance = alpha * alpha * STD**2 + sigma * sigma
    squares = (centres**2).sum(1)[:, None]
    logits = (alpha / variance) * (centres @ x) - alpha * alpha / (2 * variance) * squares
    weights = xp.exp(logits - logits.max(0))
    sums = np.concatenate([centres.T, np.ones((1, 25), x.dtype)]) @ weights
    gain = alpha * STD**2 / variance
    out = sums[:2] / sums[2] * (1 - alpha * gain) + gain * x
    return out if last else out.T


def step(case: str, carry, row, field, z=None):
    """Return the carry (x, D_old) after one step but the last of heun."""
    x, old = carry
    d = field(x, row["alpha"], row["sigma"])
    if case == "heun18":
        scaled, change = x / row["alpha"], row["S_t"] - row["S"]
        slope = (scaled - d) / row["S"]
        euler = scaled + change * slope
        d_new = field(row["alpha_t"] * euler, row["alpha_t"], row["sigma_t"])
        x = row["alpha_t"] * (scaled + change / 2 * (slope + (euler - d_new) / row["S_t"]))
        return x, old
    x = row["a"] * x + row["b"] * d
    if case == "ddpm1000":
        return x + row["c"] * z, old
    return (x + row["c"] * old, d) if case == "dpmpp20" else (x, old)


def by_numpy(case: str, x, dtype=np.float32, seed: int = 1):
    """Return the end of the path by a plain NumPy loop in `dtype`."""
    numbers = {k: v.astype(dtype) for k, v in rows(case).items()}
    field = functools.partial(posterior_mean, xp=np)
    rng, x = np.random.default_rng(seed), np.asarray(x, dtype)
    carry = (x, np.zeros_like(x))
    steps = len(numbers["alpha"])
    for i in range(steps):
        row = {k: v[i] for k, v in numbers.items()}
        if case == "heun18" and i == steps - 1:
            return field(carry[0], row["alpha"], row["sigma"])
        z = rng.standard_normal(x.shape, dtype) if case == "ddpm1000" else None
        carry = step(case, carry, row, field, z)
    return carry[0]


def by_scan(case: str, x, key, field, z_shape=None):
    """Return the end of the path by one `lax.scan`; noise is drawn in each step."""
    numbers = {k: v.astype(np.float32) for k, v in rows(case).items()}
    steps = len(numbers["alpha"])
    whole = steps - 1 if case == "heun18" else steps
    noisy = case == "ddpm1000"

    def body(carry, xs):
        index, row = xs
        z = jax.random.normal(jax.random.fold_in(key, index), x.shape) if noisy else None
        return step(case, carry, row, field, z), None

    start = (x, jnp.zeros_like(x) if case == "dpmpp20" else None)
    xs = (np.arange(whole), {k: v[:whole] for k, v in numbers.items()})
    (x, _), _ = jax.lax.scan(body, start, xs)
    return field(x, numbers["alpha"][-1], numbers["sigma"][-1]) if case == "heun18" else x


def by_scan_of_draws(case: str, x, key, field):
    """Return what `by_scan` does, for ddpm with the noise of 20 steps drawn at once."""
    if case != "ddpm1000":
        return by_scan(case, x, key, field)
    numbers = {k: v.astype(np.float32) for k, v in rows(case).items()}
    split = {k: v.reshape(-1, ROWS_A_DRAW) for k, v in numbers.items()}

    def body(carry, xs):
        row, z = xs
        return step(case, carry, row, field, z), None

    def outer(carry, xs):
        index, row = xs
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
        z = jax.vmap(lambda k: jax.random.normal(k, x.shape))(keys)
        return jax.lax.scan(body, carry, (row, z))

    index = np.arange(1000).reshape(-1, ROWS_A_DRAW)
    (x, _), _ = jax.lax.scan(outer, (x, None), (index, split))
    return x


def in_blocks(loop, x, key, last: bool):
    """Return the loop's result with 1,000 particles at a time, stored as (2, n) if `last`."""

    def run(args):
        number, block = args
        field = functools.partial(posterior_mean, last=last)
        end = loop(block.T if last else block, jax.random.fold_in(key, number), field)
        return end.T if last else end

    blocks = x.reshape(-1, BLOCK, 2)
    return jax.lax.map(run, (jnp.arange(len(blocks)), blocks)).reshape(x.shape)


def jax_forms(case: str) -> dict:
    """Return the hand-written JAX programs of (x, key) by name, each jitted."""
    plain = functools.partial(by_scan, case)
    drawn = functools.partial(by_scan_of_draws, case)
    return {
        "scan": jax.jit(lambda x, key: plain(x, key, posterior_mean)),
        "blocks": jax.jit(lambda x, key: in_blocks(plain, x, key, False)),
        "blocks_last": jax.jit(lambda x, key: in_blocks(plain, x, key, True)),
        "blocks_drawn": jax.jit(lambda x, key: in_blocks(drawn, x, key, True)),
    }

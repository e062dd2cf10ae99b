"""Solvers by hand: for one member of each family the `lax.scan` that one writes for it alone.

What a careful programmer does without a library: numbers of the steps in float64 NumPy, float32 in
the loop, the history as a tuple, first steps of lower order by weights that are zero. Nothing here
comes from dfx. A variance-preserving path in lambda = log(alpha / sigma), S = exp(-lambda), steps
from level s to level t, h = lambda_t - lambda_s, m the denoiser and e = (x - alpha m) / sigma.

Every loop is a function of (lam, x, noise, denoise, unroll): lambda at the n + 1 ends of the steps,
the start, row -> z, (x, level) -> m, and how many steps a turn of the scan holds.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

#: Share of the new direction in `ghvb`.
BETA = 0.8


class Level(NamedTuple):
    """The coefficients of x = alpha x0 + sigma eps."""

    alpha: np.ndarray
    sigma: np.ndarray


def level(ratio) -> Level:
    """Return the level at S = sigma / alpha."""
    alpha = 1 / np.sqrt(1 + ratio**2)
    return Level(alpha, ratio * alpha)


def ends(lam) -> tuple[Level, Level]:
    """Return the levels where the steps start, and where they end."""
    return level(np.exp(-lam[:-1])), level(np.exp(-lam[1:]))


def scan(step, carry, rows, unroll):
    """Return the carry after all rows, which are float64 NumPy with the step as leading axis."""
    rows = jax.tree.map(lambda a: a.astype(np.float32) if a.dtype == np.float64 else a, rows)
    return jax.lax.scan(lambda carry, row: (step(carry, row), None), carry, rows, unroll=unroll)[0]


def slope(x, m, at):
    """Return e, the noise in x."""
    return (x - at.alpha * m) / at.sigma


def ddim(lam, x, noise, denoise, unroll=1):
    """x <- (sigma_t / sigma_s) x + (alpha_t - alpha_s sigma_t / sigma_s) m."""
    s, t = ends(lam)
    a = t.sigma / s.sigma

    def step(x, row):
        s, a, b = row
        return a * x + b * denoise(x, s)

    return scan(step, x, (s, a, t.alpha - a * s.alpha), unroll)


def ddpm(lam, x, noise, denoise, unroll=1):
    """Ancestral with the small variance: with k = exp(-h), fresh noise of variance 1 - k^2."""
    s, t = ends(lam)
    kept = np.exp(-np.diff(lam))
    fresh = 1 - kept**2

    def step(x, row):
        i, s, a, b, std = row
        return a * x + b * denoise(x, s) + std * noise(i)

    rows = s, kept * t.sigma / s.sigma, t.alpha * fresh, t.sigma * np.sqrt(fresh)
    return scan(step, x, (np.arange(len(kept)), *rows), unroll)


def heun(lam, x, noise, denoise, unroll=1):
    """Karras et al. 2022, algorithm 1: X = x / alpha by the mean slope of both ends."""
    s, t = ends(lam)

    def step(x, row):
        s, t, change = row
        m = denoise(x, s)
        d = slope(x, m, s)
        y = t.alpha * m + t.sigma * d
        return t.alpha * (x / s.alpha + change / 2 * (d + slope(y, denoise(y, t), t)))

    return scan(step, x, (s, t, np.diff(np.exp(-lam))), unroll)


def lms(lam, x, noise, denoise, unroll=1):
    """X by the cubic in S through the last four e (k-diffusion)."""
    s, t = ends(lam)
    w = t.alpha[:, None] * multistep(np.exp(-lam), 4)

    def step(carry, row):
        x, *old = carry
        s, a, w = row
        values = slope(x, denoise(x, s), s), *old
        return a * x + weighted(w, values), *values[:3]

    return scan(step, (x, *zeros(x, 3)), (s, t.alpha / s.alpha, w), unroll)[0]


def dpm_solver_pp_2m(lam, x, noise, denoise, unroll=1):
    """Lu et al. 2022b, algorithm 2."""
    s, t = ends(lam)
    w = t.alpha[:, None] * midpoint(lam, 1)

    def step(carry, row):
        x, old = carry
        s, a, w = row
        m = denoise(x, s)
        return a * x + w[0] * m + w[1] * old, m

    return scan(step, (x, jnp.zeros_like(x)), (s, t.sigma / s.sigma, w), unroll)[0]


def dpm_solver_pp_3m(lam, x, noise, denoise, unroll=1):
    """The parabola in lambda through the last three m, integrated exactly."""
    s, t = ends(lam)
    w = multistep(lam, 3, rate=1)
    w[1, :2] = midpoint(lam, 1)[1]

    def step(carry, row):
        x, old, older = carry
        s, a, w = row
        m = denoise(x, s)
        return a * x + weighted(w, (m, old, older)), m, old

    rows = s, t.sigma / s.sigma, t.alpha[:, None] * w
    return scan(step, (x, *zeros(x, 2)), rows, unroll)[0]


def dpm_solver_3s(lam, x, noise, denoise, unroll=1):
    """Lu et al. 2022a, algorithm 2, with r_1, r_2 = 1/3, 2/3."""
    s, t = ends(lam)
    h = np.diff(lam)
    u, v = (level(np.exp(-lam[:-1] - part * h)) for part in (1 / 3, 2 / 3))
    grow = [np.expm1(part * h) for part in (1 / 3, 2 / 3, 1)]
    bend_v = 2 * (grow[1] / (2 / 3 * h) - 1)  # r_2 / r_1 = 2
    bend_t = 3 / 2 * (grow[2] / h - 1)  # 1 / r_2

    def step(x, row):
        s, u, v, t, grow, bend_v, bend_t = row
        e = slope(x, denoise(x, s), s)
        y = u.alpha / s.alpha * x - u.sigma * grow[0] * e
        d = slope(y, denoise(y, u), u) - e
        y = v.alpha / s.alpha * x - v.sigma * (grow[1] * e + bend_v * d)
        d = slope(y, denoise(y, v), v) - e
        return t.alpha / s.alpha * x - t.sigma * (grow[2] * e + bend_t * d)

    return scan(step, x, (s, u, v, t, np.stack(grow, 1), bend_v, bend_t), unroll)


def rho_rk4(lam, x, noise, denoise, unroll=1):
    """Classic Runge-Kutta for dX / dS = e."""
    s, t = ends(lam)
    change = np.diff(np.exp(-lam))
    middle = level(np.exp(-lam[:-1]) + change / 2)

    def step(x, row):
        s, u, t, change = row
        start = x / s.alpha
        a = slope(x, denoise(x, s), s)
        y = u.alpha * (start + change / 2 * a)
        b = slope(y, denoise(y, u), u)
        y = u.alpha * (start + change / 2 * b)
        c = slope(y, denoise(y, u), u)
        y = t.alpha * (start + change * c)
        d = slope(y, denoise(y, t), t)
        return t.alpha * (start + change / 6 * (a + 2 * b + 2 * c + d))

    return scan(step, x, (s, middle, t, change), unroll)


def unipc_2(lam, x, noise, denoise, unroll=1):
    """Zhao et al. 2023 with B_2: m at the predicted y corrects x, then y of the next step."""
    s, t = ends(lam)
    correct = multistep(lam, 3, rate=1, ahead=True)
    correct[0, :2] = -np.expm1(lam[0] - lam[1]) / 2

    def step(carry, row):
        y, base, old, older = carry  # base = (sigma_t / sigma_s) x_s
        s, c, a, p = row
        m = denoise(y, s)
        base = a * (base + weighted(c, (m, old, older)))
        return base + p[0] * m + p[1] * old, base, m, old

    # No step ends where the first begins: there x is the start itself.
    c = np.concatenate([np.zeros((1, 3)), (t.alpha[:, None] * correct)[:-1]])
    rows = s, c, t.sigma / s.sigma, t.alpha[:, None] * midpoint(lam, 1)
    return scan(step, (x, x, *zeros(x, 2)), rows, unroll)[0]


def sde_dpm_solver_pp_2m(lam, x, noise, denoise, unroll=1):
    """Lu et al. 2022b for the reverse stochastic equation."""
    s, t = ends(lam)
    kept = np.exp(-np.diff(lam))
    w = t.alpha[:, None] * midpoint(lam, 2)

    def step(carry, row):
        x, old = carry
        i, s, a, w, std = row
        m = denoise(x, s)
        return a * x + w[0] * m + w[1] * old + std * noise(i), m

    rows = s, kept * t.sigma / s.sigma, w, t.sigma * np.sqrt(1 - kept**2)
    return scan(step, (x, jnp.zeros_like(x)), (np.arange(len(kept)), *rows), unroll)[0]


def sa_solver(lam, x, noise, denoise, unroll=1):
    """Xue et al. 2023: predictor 3, corrector 4, tau = 1; both on the same noisy base."""
    s, t = ends(lam)
    kept = np.exp(-np.diff(lam))
    correct = t.alpha[:, None] * multistep(lam, 4, rate=2, ahead=True)

    def step(carry, row):
        y, base, *old = carry  # base = a x_s + std z
        i, s, c, a, p, std = row
        values = denoise(y, s), *old
        base = a * (base + weighted(c, values)) + std * noise(i)
        return base + weighted(p, values[:3]), base, *values[:3]

    c = np.concatenate([np.zeros((1, 4)), correct[:-1]])
    predict = t.alpha[:, None] * multistep(lam, 3, rate=2)
    rows = s, c, kept * t.sigma / s.sigma, predict, t.sigma * np.sqrt(1 - kept**2)
    return scan(step, (x, x, *zeros(x, 3)), (np.arange(len(kept)), *rows), unroll)[0]


def ghvb(lam, x, noise, denoise, unroll=1):
    """Wizadwongsa et al. 2024, order 4, weights exact on the grid."""
    s, t = ends(lam)
    w = t.alpha[:, None] * momentum(np.exp(-lam), 4)
    gain = np.where(np.arange(len(w)), BETA, 1.0)

    def step(carry, row):
        x, *old = carry
        s, a, w, gain = row
        v = (1 - gain) * old[0] + gain * slope(x, denoise(x, s), s)
        return a * x + weighted(w, (v, *old)), v, *old[:2]

    return scan(step, (x, *zeros(x, 3)), (s, t.alpha / s.alpha, w, gain), unroll)[0]


def plms(lam, x, noise, denoise, unroll=1):
    """Adams-Bashforth of order 4 after one step of Heun, which is written before the loop."""
    s, t = ends(lam)
    w = (t.alpha[:, None] * multistep(np.exp(-lam), 4))[1:]
    first, second = Level(s.alpha[0], s.sigma[0]), Level(t.alpha[0], t.sigma[0])

    def step(carry, row):
        x, *old = carry
        s, a, w = row
        values = slope(x, denoise(x, s), s), *old
        return a * x + weighted(w, values), *values[:3]

    d = slope(x, denoise(x, first), first)
    keep = float(second.alpha / first.alpha)
    change = float(second.sigma - keep * first.sigma)
    y = keep * x + change * d
    x = keep * x + change / 2 * (d + slope(y, denoise(y, second), second))
    rows = Level(s.alpha[1:], s.sigma[1:]), (t.alpha / s.alpha)[1:], w
    return scan(step, (x, d, *zeros(x, 2)), rows, unroll)[0]


def zeros(x, count):
    """Return a history of nothing."""
    return (jnp.zeros_like(x),) * count


def weighted(weights, values):
    """Return the sum of the values with these weights."""
    total = weights[0] * values[0]
    for j, value in enumerate(values[1:], 1):
        total = total + weights[j] * value
    return total


def multistep(places, count, rate=0, ahead=False) -> np.ndarray:
    """Return the weights of the last `count` values in all steps, newest first; zero where there
    are fewer. They integrate the polynomial in u through the values,

        rate 0:  int P(u) du,      otherwise:  rate int exp(rate (u - u_t)) P(u) du,

    over the step. With `ahead` the first value is that at the end of the step.

    Returns:
      Shape (steps, count).
    """
    table = np.zeros((len(places) - 1, count))
    z, rule = np.polynomial.legendre.leggauss(24)
    for i in range(len(table)):
        s, t = places[i], places[i + 1]
        nodes = places[: i + 1 + ahead][::-1][:count]
        u = s + (t - s) * (1 + z) / 2
        density = (t - s) / 2 * rule * (rate * np.exp(rate * (u - t)) if rate else 1.0)
        for j, node in enumerate(nodes):
            others = np.delete(nodes, j)[:, None]
            table[i, j] = density @ np.prod((u - others) / (node - others), axis=0)
    return table


def midpoint(lam, rate) -> np.ndarray:
    """Return the weights of the last two m with the slope taken at the middle, shape (steps, 2)."""
    h = np.diff(lam)
    whole = -np.expm1(-rate * h)
    r = np.append(0.0, h[1:] / (2 * h[:-1]))
    return np.stack([whole * (1 + r), -whole * r], 1)


def momentum(places, count) -> np.ndarray:
    """Return the weights of the last `count` v that integrate 1, u, .., u^(count-1) exactly.

    Returns:
      Shape (steps, count), zero where there are fewer v.
    """
    table = np.zeros((len(places) - 1, count))
    for i in range(len(table)):
        k, change = min(count, i + 1), places[i + 1] - places[i]
        powers = ((places[: i + 1] - places[i]) / change)[:, None] ** np.arange(k)
        held = [powers[0]]
        for power in powers[1:]:
            held.append((1 - BETA) * held[-1] + BETA * power)
        system = np.stack(held[::-1][:k], 1)
        table[i, :k] = change * np.linalg.solve(system, 1 / (1 + np.arange(k)))
    return table


#: Name, that of the registry of dfx -> (loop, evaluations a step, more of them in the start).
LOOPS = {
    "ddim": (ddim, 1, 0),
    "ddpm": (ddpm, 1, 0),
    "heun": (heun, 2, 0),
    "lms": (lms, 1, 0),
    "dpm_solver_pp_2m": (dpm_solver_pp_2m, 1, 0),
    "dpm_solver_pp_3m": (dpm_solver_pp_3m, 1, 0),
    "dpm_solver_3s": (dpm_solver_3s, 3, 0),
    "rho_rk4": (rho_rk4, 4, 0),
    "unipc_2": (unipc_2, 1, 0),
    "sde_dpm_solver_pp_2m": (sde_dpm_solver_pp_2m, 1, 0),
    "sa_solver": (sa_solver, 1, 0),
    "ghvb": (ghvb, 1, 0),
    "plms": (plms, 1, 1),
}

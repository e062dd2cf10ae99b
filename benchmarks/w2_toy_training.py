"""W2, toy training: dfx's `fit` against a jitted step, a hand-written scan and installed peers.

A multilayer perceptron (x, t / 1000) -> 256 x depth, SiLU -> 2 learns to predict the noise on a
mixture of 25 Gaussians; data, times and noise are drawn inside the step; Adam at 1e-3. One call is
`--steps` steps (20 at batch 10,000); the numbers are per step. Peers: NumPy always, torch and
torchcfm when installed.

    taskset -c 0 python -m benchmarks.w2_toy_training       # one core: the figures of record
    python -m benchmarks.w2_toy_training --depths 3 --batches 1024 --repeats 3

The last two cases train 8 seeds of a small net by one vmapped `fit` and by 8 single ones; theirs
are seconds per step of all 8.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import train

WIDTH, RATE, SEED = 256, 1e-3, 0
ABAR = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000)).astype(np.float32)


def init_mlp(key: jax.Array, depth: int, width: int = WIDTH) -> list[dict[str, jax.Array]]:
    """Return the layers of the perceptron, normal weights of variance 1 / fan-in."""
    sizes = [3, *[width] * depth, 2]
    keys = jax.random.split(key, len(sizes))
    return [
        {"w": jax.random.normal(k, (m, n), jnp.float32) * m**-0.5, "b": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes[:-1], sizes[1:])
    ]


def apply_mlp(layers, x, t):
    """Return the predicted noise, shape (n, 2)."""
    h = jnp.concatenate([x, t[:, None] / 1000.0], axis=1)
    for layer in layers[:-1]:
        h = jax.nn.silu(h @ layer["w"] + layer["b"])
    return h @ layers[-1]["w"] + layers[-1]["b"]


def draw_points(key: jax.Array, n: int) -> jax.Array:
    """Return n points of the mixture, shape (n, 2)."""
    k1, k2 = jax.random.split(key)
    centres = jax.random.randint(k1, (n, 2), -2, 3).astype(jnp.float32)
    return centres + 0.1 * jax.random.normal(k2, (n, 2), jnp.float32)


def noise_loss(layers, key, x0):
    """Return the mean square error of the predicted noise."""
    k1, k2 = jax.random.split(key)
    t = jax.random.randint(k1, (x0.shape[0],), 0, 1000)
    eps = jax.random.normal(k2, x0.shape, jnp.float32)
    abar = jnp.asarray(ABAR)[t][:, None]
    xt = jnp.sqrt(abar) * x0 + jnp.sqrt(1.0 - abar) * eps
    return jnp.mean((apply_mlp(layers, xt, t.astype(jnp.float32)) - eps) ** 2), {}


def by_dfx(depth: int, batch: int, steps: int, slices: int = 1):
    """Return the call that trains by `dfx.train.fit`."""
    optimizer = train.optimizer(RATE)
    step = train.make_step(noise_loss, optimizer, slices=slices)
    state = train.init_state(init_mlp(jax.random.key(SEED), depth), optimizer, jax.random.key(1))
    return functools.partial(train.fit, step, state, batches(batch), steps, 100, data=data_key())


def by_dfx_slices(depth: int, batch: int, steps: int):
    """Return the same call with the batch in slices of about 1,000."""
    return by_dfx(depth, batch, steps, slices=batch // 1000)


@functools.cache
def batches(batch: int):
    """Return the batch function, the same object each time, so that `fit` compiles once."""
    return lambda key, step: draw_points(jax.random.fold_in(key, step), batch)


def data_key() -> jax.Array:
    """Return the key that the data are drawn with."""
    return jax.random.key(2)


def plain_step(batch: int):
    """Return the step that a person would write by hand, and its optimizer."""
    adam = optax.adam(RATE)

    def step(carry, i):
        layers, opt_state = carry
        x0 = draw_points(jax.random.fold_in(data_key(), i), batch)
        key = jax.random.fold_in(jax.random.key(1), i)
        (loss, _), grads = jax.value_and_grad(noise_loss, has_aux=True)(layers, key, x0)
        updates, opt_state = adam.update(grads, opt_state)
        return (optax.apply_updates(layers, updates), opt_state), loss

    return step, adam


def by_jitted_step(depth: int, batch: int, steps: int):
    """Return the call that runs the hand-written step, jitted, in a Python loop."""
    step, adam = plain_step(batch)
    layers, jitted = init_mlp(jax.random.key(SEED), depth), jax.jit(step)

    def run():
        carry = (layers, adam.init(layers))
        for i in range(steps):
            carry, _ = jitted(carry, i)
        return carry

    return run


def by_scan(depth: int, batch: int, steps: int):
    """Return the call that runs the hand-written step in one `lax.scan`."""
    step, adam = plain_step(batch)
    layers = init_mlp(jax.random.key(SEED), depth)
    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(steps)))
    return lambda: scan((layers, adam.init(layers)))


def by_numpy(depth: int, batch: int, steps: int):
    """Return the call that trains by NumPy, with the derivatives written out."""
    rng = np.random.default_rng(SEED)
    layers = [[np.array(p["w"]), np.array(p["b"])] for p in init_mlp(jax.random.key(SEED), depth)]
    means = [[np.zeros_like(p) for p in layer] for layer in layers]
    squares = [[np.zeros_like(p) for p in layer] for layer in layers]

    def step(i):
        x0 = rng.integers(-2, 3, (batch, 2)) + 0.1 * rng.standard_normal((batch, 2), np.float32)
        t = rng.integers(0, 1000, batch)
        eps = rng.standard_normal((batch, 2), np.float32)
        xt = np.sqrt(ABAR[t])[:, None] * x0 + np.sqrt(1.0 - ABAR[t])[:, None] * eps
        h = np.concatenate([xt, t[:, None] / 1000.0], axis=1).astype(np.float32)
        tape = []
        for w, b in layers[:-1]:
            z = h @ w + b
            gate = 1.0 / (1.0 + np.exp(-z))
            tape.append((h, z, gate))
            h = z * gate
        w, b = layers[-1]
        delta = (h @ w + b - eps) * np.float32(2.0 / eps.size)
        grads = [(h.T @ delta, delta.sum(0))]
        for (h, z, gate), (above, _) in zip(reversed(tape), reversed(layers[1:])):
            delta = (delta @ above.T) * (gate * (1.0 + z * (1.0 - gate)))
            grads.append((h.T @ delta, delta.sum(0)))
        for layer, mean, square, grad in zip(layers, means, squares, reversed(grads)):
            for p, m, s, g in zip(layer, mean, square, grad):
                m += 0.1 * (g - m)
                s += 0.001 * (g * g - s)
                p -= RATE * (m / (1 - 0.9**i)) / (np.sqrt(s / (1 - 0.999**i)) + 1e-8)

    return lambda: [step(i) for i in range(1, steps + 1)] and None


def by_torch(depth: int, batch: int, steps: int):
    """Return the call that trains by eager torch."""
    import torch

    torch.set_num_threads(num_cpus())
    sizes = [3, *[WIDTH] * depth, 2]
    layers: list = []
    for m, n in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(m, n), torch.nn.SiLU()]
    net = torch.nn.Sequential(*layers[:-1])
    adam, abar = torch.optim.Adam(net.parameters(), lr=RATE), torch.from_numpy(ABAR)

    def step():
        x0 = torch.randint(-2, 3, (batch, 2)) + 0.1 * torch.randn(batch, 2)
        t, eps = torch.randint(0, 1000, (batch,)), torch.randn(batch, 2)
        a = abar[t][:, None]
        xt = a.sqrt() * x0 + (1.0 - a).sqrt() * eps
        loss = ((net(torch.cat([xt, t[:, None] / 1000.0], 1)) - eps) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return lambda: [step() for _ in range(steps)] and None


def by_torchcfm(depth: int, batch: int, steps: int):
    """Return the call that trains torchcfm's net by its matcher (three hidden layers, SELU)."""
    import torch
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.models import MLP

    torch.set_num_threads(num_cpus())
    net, matcher = MLP(dim=2, time_varying=True, w=WIDTH), ConditionalFlowMatcher(sigma=0.0)
    adam = torch.optim.Adam(net.parameters(), lr=RATE)

    def step():
        x1 = torch.randint(-2, 3, (batch, 2)) + 0.1 * torch.randn(batch, 2)
        t, xt, ut = matcher.sample_location_and_conditional_flow(torch.randn(batch, 2), x1)
        loss = ((net(torch.cat([xt, t[:, None]], 1)) - ut) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return lambda: [step() for _ in range(steps)] and None


def cases(depth: int, batch: int) -> dict:
    """Return the ways of training by name: those whose packages are installed."""
    ways = {"dfx": by_dfx, "jitted_step": by_jitted_step, "scan": by_scan, "numpy": by_numpy}
    if batch > 2000:
        ways["dfx_slices"] = by_dfx_slices
    if importlib.util.find_spec("torch"):
        ways["torch"] = by_torch
    # torchcfm imports POT, though it is used here without an optimal coupling.
    if all(map(importlib.util.find_spec, ("torch", "torchcfm", "ot"))) and depth == 3:
        ways["torchcfm"] = by_torchcfm
    return ways


def compare(depth: int, batch: int, steps: int, repeats: int, only: list[str] | None) -> None:
    """Measure the ways of training one setting in turn and report seconds per step."""
    ways = {k: way for k, way in cases(depth, batch).items() if not only or k in [*only, "dfx"]}
    times = measure_in_turn({k: way(depth, batch, steps) for k, way in ways.items()}, repeats)
    for name, time in times.items():
        tell(f"L{depth} B{batch} {name}", time, steps)


def compare_ensemble(members: int, steps: int, repeats: int) -> None:
    """Measure small nets trained by one vmapped fit (dfx) and by as many single fits (alone)."""
    optimizer = train.optimizer(RATE)
    step = train.make_step(noise_loss, optimizer)

    def make(key):
        return train.init_state(init_mlp(key, 3, 64), optimizer, jax.random.fold_in(key, 1))

    states = jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(SEED), members))
    keys = jax.random.split(data_key(), members)
    fit = functools.partial(train.fit, step, batch_fn=batches(128), num_steps=steps, chunk=500)

    def alone():
        return [fit(state=train.member(states, i), data=keys[i]) for i in range(members)]

    ways = {"dfx": lambda: fit(state=states, data=keys), "alone": alone}
    times = measure_in_turn(ways, repeats)
    for name, time in times.items():
        tell(f"L3x64 B128 {members}-seeds {name}", time, steps)


def tell(case: str, time: dict[str, float], steps: int) -> None:
    """Report one case: seconds per step, and those of the first call, which compiles."""
    per_step = {"wall_s": time["wall_s"] / steps, "cpu_s": time["cpu_s"] / steps}
    report("W2", case, **per_step, first_s=time["first_s"], steps=steps, cpus=num_cpus())


def main() -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 10_000])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--only", nargs="+", help="names of the ways to run beside dfx")
    parser.add_argument("--keep-memory", action="store_true", help="see dfx/train/environment.py")
    args = parser.parse_args()
    if args.keep_memory and not train.keep_freed_memory():
        parser.error("--keep-memory needs glibc")
    for depth in args.depths:
        for batch in args.batches:
            steps = args.steps if batch < 10_000 else max(args.steps // 5, 1)
            compare(depth, batch, steps, args.repeats, args.only)
    if args.members:
        compare_ensemble(args.members, 10 * args.steps, args.repeats)


if __name__ == "__main__":
    main()

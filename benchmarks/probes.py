"""Probe estimates on image nets: their cost in forward passes, against the passes they must make.

A U-Net (base 32, multipliers 1, 2, 2) at 28 x 28 x 1 and at 32 x 32 x 3 and a DiT (patch 4, width
192, depth 6) at 32 x 32 x 3, batch 8, float32, random weights; a score at t = 0.5. The estimates
are the library's:

    rate     d_t s                                                     jax.jvp of the field
    div      z . J z                                                   fields.divergence
    asym     |J z - J^T z|^2                                           diagnostics.asymmetry
    fp       residual of the score Fokker-Planck equation              diagnostics.score_residual

The floor counts passes through the layers. A forward pass is one; so is the linear map along one
tangent, and so is its transpose, a reverse derivative without those of the weights, once the values
of the forward pass are there. With k probes

    rate  1 + 1        div  1 + k        asym  1 + 2 k        fp  1 + 1 + 1 + 3 k

(fp: values, d_t s, J^T of the score; and for each probe a reverse derivative and the tangents of
both passes). Products of two activations, as in attention, have two tangents, and element-wise
parts cost more in a derivative than in the pass itself: neither is in the count.

    taskset -c 0 python -m benchmarks.probes      # one core: the figures of record
    python -m benchmarks.probes --nets dit32 --probes 1 --repeats 3

`dfx` is the forward pass of the score, the unit of the table; `passes` is the cost in it, `floor`
the count. `vjp` is one reverse derivative by `jax.vjp`, for comparison: floor 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import diagnostics, fields, nets
from dfx.schedules import VPLinear

BATCH, TIME, SEED = 8, 0.5, 0
SCHEDULE = VPLinear()
NETS: dict[str, tuple[Callable, tuple[int, int, int]]] = {
    "unet28": (nets.unet, (28, 28, 1)),
    "unet32": (nets.unet, (32, 32, 3)),
    "dit32": (nets.dit, (32, 32, 3)),
}


def step_number(level):
    """Return what the net gets as t."""
    return 1000 * level.t


def make_field(name: str, batch: int):
    """Return the field of a net with random weights, and points."""
    make, shape = NETS[name]
    key_net, key_rest, key_x = jax.random.split(jax.random.key(SEED), 3)
    net = make(shape)
    params = net.init(key_net)
    # Layers that start at zero would leave nothing to differentiate.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key_rest, len(leaves))
    moved = [a + 0.02 * jax.random.normal(k, a.shape, a.dtype) for a, k in zip(leaves, keys)]
    field = fields.from_net(net, jax.tree.unflatten(tree, moved), "eps", step_number)
    return field, jax.random.normal(key_x, (batch, *shape))


def cases(name: str, probes: list[int], batch: int) -> dict[str, tuple[int, Callable]]:
    """Return the floor and the call of each estimate."""
    field, x = make_field(name, batch)
    key, level = jax.random.key(1), jax.tree.map(jnp.float32, SCHEDULE.at(TIME))
    score = diagnostics.prediction_at(field, level)

    @jax.jit
    def rate(field, x, level, slope):
        at_level = lambda level: diagnostics.prediction_at(field, level)(x)  # noqa: E731
        return jax.jvp(at_level, (level,), (slope,))

    slope = jax.tree.map(jnp.ones_like, level)
    forward, divergence = jax.jit(lambda f, x: f(x)), jax.jit(fields.divergence, static_argnums=3)
    reverse = jax.jit(lambda f, x, z: jax.vjp(f, x)[1](z))
    found: dict[str, tuple[int, Callable]] = {
        "dfx": (1, lambda: forward(score, x)),
        "vjp": (2, lambda: reverse(score, x, x)),
        "rate": (2, lambda: rate(field, x, level, slope)),
    }
    for k in probes:
        found[f"div-{k}"] = 1 + k, lambda k=k: divergence(score, x, key, k)
        found[f"asym-{k}"] = 1 + 2 * k, lambda k=k: diagnostics.asymmetry(score, x, key, k)
        found[f"fp-{k}"] = (
            3 + 3 * k,
            lambda k=k: diagnostics.score_residual(SCHEDULE, field, x, TIME, key=key, num_probes=k),
        )
    return found


def main(argv: list[str] | None = None) -> None:
    """Run the workload as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--probes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    for name in args.nets:
        found = cases(name, args.probes, args.batch)
        times = measure_in_turn({case: call for case, (_, call) in found.items()}, args.repeats)
        for case, (floor, _) in found.items():
            passes = times[case]["cpu_s"] / times["dfx"]["cpu_s"]
            over = passes / floor
            numbers = {"passes": passes, "floor": floor, "over_floor": over, **times[case]}
            report("probes", f"{name} n={args.batch} {case}", cpus=num_cpus(), **numbers)


if __name__ == "__main__":
    main()

"""What holds for every law, by quadrature: the forward process as a gradient flow, the rates of
relative entropy under planted errors, and three losses that are one.

Kept: `gradient_flow` (KL(p_t | pi) with its slope, measured and predicted), `rates_NAME` for the
planted errors, `rates_line` (one dimension, where no gauge part exists), `losses` (the loss curves)
and `weights` (how the plain losses share their attention among noise levels).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, fields, losses, nets, schedules, targets, train
from experiments.score_or_flow.rates import Test, rates
from experiments.shared import perturbed

SCHEDULE = schedules.VPLinear()


def identities(config, run) -> None:
    """Compute the part."""
    run.arrays("gradient_flow", lambda: gradient_flow(config))
    test = make_test(config, ring())
    for name, field in planted(config).items():
        run.arrays(f"rates_{name}", lambda f=field: rates(test, f, config.rates.levels))
    run.arrays("rates_line", lambda: line(config))
    run.arrays("losses", lambda: loss_curves(config))
    run.arrays("weights", plain_weights)


def make_test(config, target) -> Test:
    """Return the settings of the rates."""
    settings = config.rates
    return Test(target, SCHEDULE, settings.steps, settings.cells, settings.step)


#: Which of the two errors each field has.
PLANTED = {"gauge": (1, 0), "gradient": (0, 1), "both": (1, 1)}


def planted(config) -> dict[str, Any]:
    """Return the exact field of the ring with a gauge error, a gradient error, and both."""
    bed = perturbed.Bed(ring(), SCHEDULE)
    gauge, ripple = perturbed.gauge_error(bed), diagnostics.gradient_of(perturbed.ripple)
    found = {}
    for name, (has_gauge, has_gradient) in PLANTED.items():
        wrong = diagnostics.with_error(bed.exact, ripple, has_gradient * config.rates.gradient)
        found[name] = diagnostics.with_error(wrong, gauge, has_gauge * config.rates.gauge)
    return found


#: The ring of modes: radius, standard deviation, weights.
RADIUS, STD, WEIGHTS = 1.2, 0.2, (1.0, 2.0, 1.5, 1.0, 2.0, 1.0, 1.5, 2.0)


def ring() -> targets.Mixture:
    """Return eight unequal modes on a ring, nearly five standard deviations apart."""
    angles = 2 * np.pi * np.arange(8) / 8 + 0.2
    means = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return targets.Mixture.isotropic(means, STD, WEIGHTS)


def two_modes() -> targets.Mixture:
    """Return two unequal modes on the line."""
    return targets.Mixture.isotropic([[-0.8], [0.9]], [0.35, 0.25], (0.4, 0.6))


def ripple_1d(x, level):
    """Return the potential sin(2 x + 0.5) / 2, shape (n,)."""
    return 0.5 * jnp.sin(2 * x[:, 0] + 0.5)


def line(config) -> dict[str, np.ndarray]:
    """Return the rates in one dimension: every field is a gradient, the gauge part must vanish."""
    target = two_modes()
    error = diagnostics.gradient_of(ripple_1d)
    field = diagnostics.with_error(fields.oracle(target), error, config.rates.gradient)
    test = make_test(config, target)._replace(cells=4 * config.rates.cells)
    return rates(test, field, config.rates.levels)


#: Laws whose noising is compared with the gradient flow of KL(. | N(0, I)): name -> target.
FLOWS = {"line": two_modes, "plane": ring}

#: The box of these sums reaches 9 standard deviations beyond the outermost mode. Its cells an axis
#: are a fifth of a mode's standard deviation or less: between two modes log p bends within one.
REACH, CELLS = 9.0, 160


def gradient_flow(config) -> dict[str, np.ndarray]:
    """Return for each law, at times t: KL(p_t | pi), its measured slope, and -(beta / 2) I; and
    these three of N(0, 0.3) at t = 0.37 under beta = 2, whose slope is -0.1674761."""
    times = np.geomspace(0.01, 0.9, 12)
    found: dict[str, np.ndarray] = {"t": times}
    with jax.enable_x64(True):
        for name, law in FLOWS.items():
            rows = [gradient_flow_at(law(), SCHEDULE, float(t)) for t in times]
            for column, values in zip(("kl", "measured", "predicted"), zip(*rows)):
                found[f"{name}.{column}"] = np.asarray(values)
        # Twice the same component: the shapes, and so the program, of the law on the line.
        normal = targets.Mixture.isotropic([[0.0], [0.0]], [np.sqrt(0.3)] * 2)
        steady = schedules.make("vp_linear", beta_min=2.0, beta_max=2.0)
        found["gaussian"] = np.asarray(gradient_flow_at(normal, steady, 0.37))
    return found


def gradient_flow_at(target, schedule, t: float) -> tuple[float, float, float]:
    """Return KL(p_t | N(0, I)), its slope by the difference of order 4 at t (1 -+ h) and t (1 -+ 2
    h), h = 0.001, and the slope that the gradient flow predicts."""
    h, grid = 1e-3 * t, _box(target.at(schedule.at(t)))
    found = [_to_normal(target, schedule.at(t + k * h), grid) for k in (-2, -1, 0, 1, 2)]
    values = [float(kl) for kl, _ in found]
    slope = (values[0] - 8 * values[1] + 8 * values[3] - values[4]) / (12 * h)
    # KL(. | pi) falls at that rate along its gradient flow, and p moves by beta / 2 times it.
    beta = float(schedules.diffusion(schedule, t))
    return values[2], slope, 0.5 * beta * float(found[2][1])


def _box(law) -> evolution.Grid:
    """The grid that holds a law of isotropic modes."""
    reach = np.abs(law.means).max(axis=0) + REACH * np.sqrt(law.variance.max())
    return evolution.make_grid(-reach, reach, [CELLS] * law.dim)


@jax.jit
def _to_normal(target, level, grid):
    """KL(p | pi) for pi = N(0, I), and its rate along the gradient flow."""
    d, x = target.dim, grid.centres(jnp.float64)
    log_p, score = target.log_prob(x, level), target.score(x, level)
    weights = jnp.exp(log_p) * grid.volume
    log_normal = -0.5 * jnp.sum(x**2, axis=1) - 0.5 * d * jnp.log(2 * jnp.pi)
    kl = evolution.relative_entropy(weights, log_p, log_normal)
    flow = evolution.gradient_flow_velocity(score, -x)
    return kl, evolution.relative_entropy_rate(weights, flow, score, -x)


#: Predictions of one net: their losses differ by a factor at each time.
PREDICTIONS = ("eps", "score", "velocity")


def loss_curves(config) -> dict[str, np.ndarray]:
    """Return the loss of one eps-net trained as a predictor of each quantity, (predictions, steps).

    Weighted by "snr", all three are the mean of |eps error|^2.
    """
    settings, key = config.losses, jax.random.key(config.seed)
    with jax.enable_x64(True):
        first = _first(key)
        matched = [
            np.asarray(_train(key, first, name, settings.num_steps, settings.batch_size))
            for name in PREDICTIONS
        ]
    return {"names": np.asarray(PREDICTIONS), "matched": np.stack(matched)}


def seen_as(net: nets.Net, prediction: str) -> nets.Net:
    """Return the net of another prediction with the function of an eps-net; t is the time."""

    def apply(params, x, t, cond=None):
        level = SCHEDULE.at(t, x.ndim)
        return fields.convert(net.apply(params, x, t), x, level, "eps", prediction)

    return nets.Net(net.init, apply)


NET = nets.mlp(2, 64, 2)


@jax.jit
def _first(key):
    return jax.tree.map(lambda a: a.astype(jnp.float64), NET.init(key))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _train(key, params, prediction: str, num_steps: int, batch_size: int):
    target = ring()
    early = losses.uniform(SCHEDULE, start=0.01)
    loss = losses.denoising(seen_as(NET, prediction), SCHEDULE, prediction, "snr", early)
    optimizer = train.optimizer(1e-3)
    step = train.make_step(loss, optimizer)
    state = train.init_state(params, optimizer, key)

    def body(state, i):
        batch = target.sample(jax.random.fold_in(key, i), batch_size, jnp.float64)
        state, metrics = step(state, (batch,))
        return state, metrics["loss"]

    return jax.lax.scan(body, state, jnp.arange(num_steps))[1]


def plain_weights() -> dict[str, np.ndarray]:
    """Return the factor of |eps error|^2 that each plain loss has, (predictions, times)."""
    times = np.linspace(0.01, 1.0, 400)
    level = SCHEDULE.at(times)
    weigh = losses.weighting.make("snr")
    rows = [1 / weigh(level, name) * np.ones_like(times) for name in PREDICTIONS]
    return {"t": times, "log_snr": level.log_snr, "factor": np.asarray(rows)}

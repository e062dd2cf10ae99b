"""The probability-flow equation by adaptive steps, every sample with steps of its own.

It is integrated in the angle theta of the noise level, which is the same for every schedule:

    tan(theta) = sigma / alpha,    r = sqrt(alpha^2 + sigma^2),    x_t - beta y = r u,

    du / dtheta = cos(theta) eps_hat - sin(theta) x0_hat = (cos(theta) u - x0_hat) / sin(theta).

theta runs from 0 (data) to pi / 2 (no x0 left). The right-hand side is v-prediction; it is of the
size of data and noise at every level, finite where alpha = 0, and smooth at theta = 0 for smooth
laws, so the error control means the same at both ends.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError, choose
from dfx.fields.field import as_pytree, denoiser
from dfx.schedules.derived import t_of_log_snr
from dfx.schedules.schedule import check_endpoint, expand
from dfx.solvers.checks import as_points, check_levels

#: Name -> explicit Runge-Kutta method with an embedded error estimate, by its name in diffrax.
METHODS = {"bosh3": "Bosh3", "dopri5": "Dopri5", "dopri8": "Dopri8", "tsit5": "Tsit5"}

#: sigma / alpha at which paths to clean data, and from them, end. From there one step to x0_hat
#: leads to the data, off by sigma^2 / (2 alpha^2 v) of a distance along which the data have the
#: variance v: by 1e-6 of it at a standard deviation of 0.07.
LAST_NOISE = 1e-4

#: The first step tried, as a share of the way.
FIRST_STEP = 0.01


class Plan(NamedTuple):
    """How a path is integrated: the static part of the compiled program."""

    method: str
    max_steps: int


class Path(NamedTuple):
    """The end of `integrate`.

    Attributes:
      state: at the last angle; NaN where not `reached`.
      evaluations: of the rate, per sample, shape (n,); rejected steps included.
      accepted, rejected: steps per sample, shape (n,).
      reached: whether the sample got to the end within the allowed number of steps, shape (n,).
    """

    state: Any
    evaluations: jax.Array
    accepted: jax.Array
    rejected: jax.Array
    reached: jax.Array


def sample_adaptive(
    schedule,
    field: Callable,
    x,
    start=None,
    end=0.0,
    *,
    y=None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "dopri5",
    last_noise: float = LAST_NOISE,
    max_steps: int = 4096,
) -> Path:
    """Return the end of the probability-flow path through x, by an adaptive Runge-Kutta method.

    Order 5 for "dopri5" and "tsit5", 3 for "bosh3", 8 for "dopri8". Steps are chosen for each
    sample by itself, so a sample ends at the same point, after as many evaluations, in every batch;
    all samples wait for the slowest. A path whose end is clean (sigma = 0) is integrated to
    sigma / alpha = `last_noise` and ends with x0_hat there. From data to noise it is integrated
    backwards: a clean start counts as the x / alpha of a point at `last_noise`. Differentiable in
    forward mode (`jax.jvp`, `jax.jacfwd`), not in reverse.

    Args:
      schedule: the forward process.
      field: (x, level) -> x0_hat; the level has one entry per sample.
      x: the start, shape (n, *sample), floating. In float32 tolerances below 1e-6 are rounding.
      start, end: two times in [0, end_time]; None is the end time of the schedule. alpha may be 0.
      y: endpoints of the mean term, shape of x.
      rtol, atol: of one step, in units of u (the module's opening text), the root mean square over
        the entries of a sample.
      method: one of `METHODS`.
      last_noise: the cut-off at clean data; its error is named at `LAST_NOISE`.
      max_steps: the most steps a sample may take, rejected ones included.

    Returns:
      Path with `state` the points, shape of x; one evaluation of the field per evaluation, one more
      for the last x0_hat.

    Raises:
      PersonError: x not floating, equal or impossible times, tolerances that are not positive,
        unknown method, a mean term without y, a net that says nothing of x0 at the start or end.

    Source: Song et al. 2021 (score SDE), appendix D.4; Dormand & Prince 1980; Salimans & Ho 2022,
    appendix D (the angle).
    """
    check_options(rtol, atol, method, last_noise)
    check_endpoint(schedule, y, "the flow")
    x, (span, clean) = as_points(x), angles(schedule, field, start, end, last_noise)
    shared = (schedule, as_pytree(field), y)
    plan = Plan(method, max_steps)
    return _sample(shared, x, span, (rtol, atol), plan=plan, clean=clean)


@functools.partial(jax.jit, static_argnames=("plan", "clean"))
def _sample(shared, x, span, tolerances, plan, clean):
    first, last = (jnp.asarray(angle, x.dtype) for angle in span)
    start, _ = to_angle(shared, x, first, clean[0])
    path = integrate(velocity, shared, start, (first, last), plan, tolerances)
    end, level = from_angle(shared, path.state, last)
    if clean[1]:
        end = denoiser(shared[1](end, level))
        path = path._replace(evaluations=path.evaluations + 1)
    return path._replace(state=end)


def velocity(shared, u, theta):
    """Return du / dtheta for points u, shape (n, *sample), at angles theta, () or (n,)."""
    schedule, field, y = shared
    theta = expand(theta, u.ndim)
    level, radius = level_at(schedule, theta)
    x = radius * u if y is None else radius * u + level.beta * y
    return (_cos(theta) * u - denoiser(field(x, level))) / jnp.sin(theta)


def level_at(schedule, theta):
    """Return the level at angle theta, and r.

    alpha and sigma are taken from the angle: a rounded t would move them near the ends.
    """
    cos, sin = _cos(theta), jnp.sin(theta)
    level = schedule.at(t_of_log_snr(schedule, 2 * (jnp.log(cos) - jnp.log(sin))))
    radius = jnp.hypot(level.alpha, level.sigma)
    return level._replace(alpha=radius * cos, sigma=radius * sin), radius


def to_angle(shared, x, theta, clean: bool):
    """Return u = (x - beta y) / r, and r.

    Of clean data, x is taken for the x / alpha of the level, so that r = 1 / cos(theta).
    """
    schedule, _, y = shared
    level, radius = level_at(schedule, theta)
    if clean:
        return _cos(theta) * x, 1 / _cos(theta)
    return (x if y is None else x - level.beta * y) / radius, radius


def from_angle(shared, u, theta):
    """Return x = r u + beta y, and its level."""
    schedule, _, y = shared
    level, radius = level_at(schedule, theta)
    return (radius * u if y is None else radius * u + level.beta * y), level


def angles(schedule, field, start, end, last_noise):
    """Return the angles of two times, at least arctan(last_noise), and which of them are clean.

    Raises:
      PersonError: a time out of range, equal levels, or one where the field has no x0_hat.
    """
    times = [schedule.end_time if t is None else t for t in (start, end)]
    limit = float(schedule.end_time)
    if not all(0 <= float(t) <= limit for t in times):
        raise PersonError(f"times {times[0]:g}, {times[1]:g}: must lie in [0, {limit:g}]")
    levels = [schedule.at(float(t)) for t in times]
    # A clean end is looked at from `last_noise`.
    check_levels([level for level in levels if level.sigma > 0], field)
    span = [max(math.atan2(lv.sigma, lv.alpha), math.atan(last_noise)) for lv in levels]
    if span[0] == span[1]:
        raise PersonError(f"times {times[0]:g}, {times[1]:g}: start and end are one noise level")
    return tuple(span), tuple(bool(lv.sigma == 0) for lv in levels)


def check_options(rtol, atol, method, last_noise):
    """Raise PersonError unless the options of an integration make sense."""
    choose("method", method, METHODS)
    if not (rtol > 0 and atol > 0):
        raise PersonError(f"rtol = {rtol}, atol = {atol}: both must be positive")
    if not 0 < last_noise < np.inf:
        raise PersonError(f"last_noise = {last_noise}: must be positive")


def integrate(rate: Callable, shared, state, span, plan: Plan, tolerances=None, grid=None) -> Path:
    """Return the end of d state / d theta = rate(shared, state, theta), sample by sample.

    Args:
      rate: (shared, state, theta) -> slope for a batch: every leaf of the state and theta have the
        batch axis first, and so has what `shared` holds per sample. It is called for the whole
        batch.
      shared: what all evaluations use.
      state: pytree of arrays with the batch axis first.
      span: the first and the last angle.
      plan: method and most steps.
      tolerances: (rtol, atol) for adaptive steps.
      grid: angles, shape (steps + 1,), for fixed steps instead.
    """
    import diffrax  # takes 0.4 s, and few runs need it

    solver = getattr(diffrax, METHODS[plan.method])()
    slope, (first, last) = _one_sample(rate), span
    control: diffrax.AbstractStepSizeController
    if grid is None:
        rtol, atol = tolerances
        # By a PI law: a third to a half fewer rejections than by the last error alone.
        control = diffrax.PIDController(rtol=rtol, atol=atol, pcoeff=0.3, icoeff=0.4)
        first_step = FIRST_STEP * (last - first)
    else:
        control, first_step = diffrax.StepTo(ts=grid), None
    term = diffrax.ODETerm(lambda theta, state, _: slope(shared, state, theta))

    def solve(state):
        return diffrax.diffeqsolve(
            term,
            solver,
            first,
            last,
            first_step,
            state,
            stepsize_controller=control,
            max_steps=plan.max_steps,
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )

    solution = jax.vmap(solve)(state)
    reached = solution.result == diffrax.RESULTS.successful
    end = jax.tree.map(
        lambda a: jnp.where(expand(reached, a.ndim - 1), a[:, 0], jnp.nan), solution.ys
    )
    steps, stages, kept = solution.stats, solver.tableau.num_stages, int(solver.tableau.fsal)
    evaluations = kept + (stages - kept) * steps["num_steps"]
    counts = evaluations, steps["num_accepted_steps"], steps["num_rejected_steps"]
    return Path(end, *counts, reached)


def _one_sample(rate):
    """The rate for one sample, which under `vmap` is evaluated for the whole batch at once: fields
    see batches as everywhere else, and may hold something for each sample."""

    @jax.custom_batching.custom_vmap
    def one(shared, state, theta):  # traced for its shapes, never run
        return jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), state)

    @one.def_vmap
    def many(size, batched, shared, state, theta):
        _, state_batched, theta_batched = batched
        spread = lambda a, is_batched: a if is_batched else jnp.broadcast_to(a, (size, *a.shape))  # noqa: E731
        state = jax.tree.map(spread, state, state_batched)
        slope = rate(shared, state, spread(theta, theta_batched))
        return slope, jax.tree.map(lambda _: True, slope)

    return one


def _cos(theta):
    return jnp.maximum(jnp.cos(theta), 0)  # pi / 2 rounds upwards in float32

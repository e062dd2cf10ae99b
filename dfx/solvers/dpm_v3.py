"""DPM-Solver-v3: an exponential integrator whose linear part is fitted to the field."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.field import as_prediction
from dfx.schedules.derived import t_of_log_snr
from dfx.schedules.schedule import is_known
from dfx.solvers.phi import correction, ddim_step, order_of_step
from dfx.solvers.steps import check_single, ends_clean, namespace, pairs, record
from dfx.solvers.tableau import Tableau

ORDERS = (1, 2, 3)

#: Gauss-Legendre points a step. Between table entries the integrand is smooth; across them it has
#: kinks of the size of the table's second differences.
QUADRATURE = np.polynomial.legendre.leggauss(16)


class ModelStatistics(NamedTuple):
    """Coefficients of a field along half log-SNR, one entry for each coordinate or for all.

    With f = exp(-lambda) eps_hat - l x / alpha, and f' its derivative along the flow,

        l = E diag(sigma d eps_hat / dx),    s = Cov(f, f') / Var(f),    b = E f' - s E f.

    Attributes:
      half_log_snr: where, rising, shape (m,); the solver interpolates linearly.
      l, s, b: shape (m, *d) where d broadcasts to one sample; b may be None for zero.
    """

    half_log_snr: Any
    l: Any  # noqa: E741 - as in the source
    s: Any
    b: Any = None


def model_statistics(field, schedule, x0, key, half_log_snr) -> ModelStatistics:
    """Estimate the statistics of a field from clean samples, for each coordinate.

    At every level the same noise and the same random signs (Hutchinson) are used, so that l is
    smooth in lambda and needs no filter before its derivative is taken by differences. l is exact
    where the Jacobian is diagonal and the same for all x; otherwise all three have Monte Carlo
    errors. Where f does not vary over the samples s is 0. Cost: two Jacobian products and one
    evaluation a level and sample.

    Args:
      field: (x, level) -> x0_hat, differentiable in x and in the entries of the level.
      schedule: without a mean term.
      x0: samples of the data, shape (n, *sample); float64 if the differences are to be exact.
      key: for the noise and the signs.
      half_log_snr: levels, rising, shape (m,), m >= 3.

    Raises:
      PersonError: a schedule with a mean term, or levels that do not rise or are too few.

    Source: Zheng et al. 2023 (DPM-Solver-v3), section 3; there with other noise at each level and
    a moving average of l'.
    """
    if schedule.has_mean:
        raise PersonError("model statistics need a schedule without a mean term")
    lambdas = _checked_table(half_log_snr, 3)
    x0, times = jnp.asarray(x0), t_of_log_snr(schedule, 2 * lambdas)
    keys = jax.random.split(key)
    noise = jax.random.normal(keys[0], x0.shape, x0.dtype)
    signs = jax.random.rademacher(keys[1], x0.shape, x0.dtype)
    times = jnp.asarray(times, x0.dtype)
    predict = as_prediction(field, "eps")

    def at(x, t):
        return predict(x, schedule.at(t))

    def sensitivity(t):
        level = schedule.at(t)
        x = level.alpha * x0 + level.sigma * noise
        return jnp.mean(level.sigma * signs * jax.jvp(lambda x: at(x, t), (x,), (signs,))[1], 0)

    def regression(args):
        t, jacobian, jacobian_dot = args
        level = schedule.at(t)
        x = level.alpha * x0 + level.sigma * noise
        t_dot = 1 / (level.alpha_dot / level.alpha - level.sigma_dot / level.sigma)
        x_dot = t_dot * as_prediction(field, "velocity")(x, level)
        eps, eps_dot = jax.jvp(at, (x, t), (x_dot, t_dot))
        scale = level.sigma / level.alpha
        f = scale * eps - jacobian * x / level.alpha
        f_dot = scale * ((jacobian - 1) * eps + eps_dot) - jacobian_dot * x / level.alpha
        return _line(f, f_dot)

    jacobian = np.asarray(jax.lax.map(sensitivity, times), np.float64)
    columns = jacobian, np.gradient(jacobian, lambdas, axis=0)
    s, b = jax.lax.map(regression, (times, *(jnp.asarray(c, x0.dtype) for c in columns)))
    return ModelStatistics(lambdas, jacobian, np.asarray(s, np.float64), np.asarray(b, np.float64))


def dpm_solver_v3(
    schedule,
    grid,
    statistics: ModelStatistics | None = None,
    order: int = 2,
    corrector: bool = True,
    lower_order_final: bool = False,
) -> Tableau:
    """Return DPM-Solver-v3: with f of `ModelStatistics` and L, S, B the integrals of l, s and
    exp(-S) b from lambda_s,

        x_t = alpha_t / alpha_s exp(-L_t) x_s - alpha_t exp(-L_t) int exp(L + S) (P + B) dlambda,

    P the polynomial in lambda through g = exp(-S) f - B at s, s-1, .. (predictor, `order` values)
    or at s, t, s-1, .. (corrector, one more). g hardly changes where the field is what its
    statistics say: for one normal law all orders are exact but for the errors of the table. The
    corrected x_t is not evaluated again: one evaluation a step, none corrects the last step. Order
    of the error: `order`, one more with corrector, whatever the statistics; lanes one more than
    values remembered. At sigma_t = 0 the last step is order 1 and returns x0_hat.

    Where b is not None the step has a constant term. A tableau is linear, so the ones it multiplies
    are a further input, the last: `sample(tableau, field, x, inputs=(jnp.ones_like(x),))`.

    Args:
      schedule, grid: as in `record`, one time for all; alpha must be positive at the start.
      statistics: those of the field; None is l = 1, s = b = 0, where the method is multistep
        DPM-Solver++ (l = 0, s = -1, b = 0 is DPM-Solver).
      order: 1, 2 or 3.
      corrector: whether to correct.
      lower_order_final: no order above the number of steps left, as in published code. Off by
        default.

    Raises:
      PersonError: an option outside these, a grid beyond the table or with times per token, alpha =
        0, or a bad grid.

    Source: Zheng et al. 2023 (DPM-Solver-v3), section 3; orders are those of full, not of
    "pseudo", differences.
    """
    if order not in ORDERS:
        raise PersonError(f"order = {order!r}: allowed are 1, 2, 3")
    r, levels = record(schedule, grid)
    check_single(levels, "dpm_solver_v3")
    steps, clean = pairs(levels), ends_clean(levels)
    table = _Table(_statistics(statistics, levels[: -1 if clean else None]), namespace(levels))
    ones = r.input(1 + schedule.has_mean) if table.has_constant else 0
    past: list = []  # half log-SNR and f, the newest first
    point, correct = r.start, None
    for i, (s, t) in enumerate(steps):
        e, now = r.at(point, s), s.half_log_snr
        f = r.let((1 - table.l_at(now)) / s.alpha * point - e.x0)
        x = r.let(correct((now, f))) if correct else point
        if clean and t is levels[-1]:
            return r.tableau(ddim_step(x, e.x0, s, t))
        past = [(now, f), *past]
        k = order_of_step(order, i, len(steps), clean, lower_order_final)
        step = _Step(table, s, t, x, ones)
        point = step.end(past[:k])
        if corrector:
            correct = step.corrector(past[:k])
    return r.tableau(point)


class _Step:
    """One step from x at s to t, as a function of (half log-SNR, f) at some levels, s first."""

    def __init__(self, table, s, t, x, ones):
        self.table, self.start, self.ones = table, s.half_log_snr, ones
        h = t.half_log_snr - self.start
        points, weights = (a.reshape(-1, *[1] * np.ndim(h)) for a in QUADRATURE)
        self.parts = (1 + points) / 2 * h
        decay = table.xp.exp(-table.rise("l", self.start, t.half_log_snr))
        self.moved = t.alpha / s.alpha * decay * x
        growth = table.growth(self.start, self.start + self.parts)
        self.weights = -t.alpha * decay * growth * table.along(growth, h / 2 * weights)

    def end(self, known):
        nodes = [node for node, _ in known]
        values = [self._g(node, f) for node, f in known]
        parts = self.table.along(self.weights, self.parts)
        integrals = [(self.weights * parts**k).sum(0) for k in range(len(known))]
        x = self.moved + integrals[0] * values[0] + correction(integrals, nodes, values)
        if not self.table.has_constant:
            return x
        shift = self.table.shift(self.start, self.start + self.parts)
        return x + (self.weights * shift).sum(0) * self.ones

    def corrector(self, known):
        """The end as a function of what is known at one more level, t."""
        return lambda found: self.end([known[0], found, *known[1:]])

    def _g(self, node, f):
        """g at a node: exp(-S) f - B, with S and B from the start of the step."""
        value = self.table.xp.exp(-self.table.rise("s", self.start, node)) * f
        if not self.table.has_constant:
            return value
        return value - self.table.shift(self.start, node) * self.ones


class _Table:
    """The statistics as functions of half log-SNR: linear between entries, and integrated so."""

    def __init__(self, statistics: ModelStatistics, xp):
        self.xp, self.at = xp, np.asarray(statistics.half_log_snr, np.float64)
        self.entries = {name: np.asarray(getattr(statistics, name), np.float64) for name in "ls"}
        self.totals = {name: self._cumulative(values) for name, values in self.entries.items()}
        self.has_constant = statistics.b is not None
        if self.has_constant:  # as it appears in the integrals: exp(-S) b
            self.entries["b"] = np.exp(-self.totals["s"]) * np.asarray(statistics.b, np.float64)
            self.totals["b"] = self._cumulative(self.entries["b"])

    def l_at(self, position):
        """l at one half log-SNR."""
        return self._value_and_integral("l", position)[0]

    def rise(self, name, start, end):
        """The integral of l, s (or exp(-S) b, S from the first entry) over [start, end]."""
        ends = (self._value_and_integral(name, position)[1] for position in (end, start))
        return next(ends) - next(ends)

    def growth(self, start, end):
        """exp(L + S) from start to each end."""
        return self.xp.exp(self.rise("l", start, end) + self.rise("s", start, end))

    def shift(self, start, end):
        """B from start to end, with S from start."""
        return self.xp.exp(self.rise("s", self.at[0], start)) * self.rise("b", start, end)

    def along(self, values, a):
        """a with trailing axes of size one, to broadcast against values of one sample each."""
        return a.reshape(a.shape + (1,) * (values.ndim - a.ndim))

    def _value_and_integral(self, name, position):
        """The value at half log-SNR `position`, of any shape, and the integral from the start."""
        xp = self.xp
        at, total, values = map(xp.asarray, (self.at, self.totals[name], self.entries[name]))
        i = xp.clip(xp.searchsorted(at, position, side="right") - 1, 0, len(self.at) - 2)
        first, rise = values[i], values[i + 1] - values[i]
        width = self.along(rise, xp.asarray(position - at[i]))
        value = first + width / self.along(rise, xp.asarray(at[i + 1] - at[i])) * rise
        return value, total[i] + width * (first + value) / 2

    def _cumulative(self, values):
        """The integral from the first entry to each, by the trapezoid rule."""
        widths = np.diff(self.at).reshape(-1, *[1] * (values.ndim - 1))
        total = np.cumsum(widths * (values[1:] + values[:-1]) / 2, axis=0)
        return np.concatenate([np.zeros_like(values[:1]), total])


#: Variance of f, as a part of its mean square, below which f counts as constant.
LEAST_VARIANCE = 1e-10


def _line(f, f_dot):
    """Slope s and intercept b of f_dot against f over the samples, for each coordinate."""
    mean, mean_dot = jnp.mean(f, 0), jnp.mean(f_dot, 0)
    variance = jnp.mean((f - mean) ** 2, 0)
    varies = variance > LEAST_VARIANCE * jnp.mean(f**2, 0)
    covariance = jnp.mean((f - mean) * (f_dot - mean_dot), 0)
    s = jnp.where(varies, covariance / jnp.where(varies, variance, 1.0), 0.0)
    return s, mean_dot - s * mean


def _statistics(statistics, levels):
    """The statistics given, checked against the grid, or those of DPM-Solver++."""
    if is_known(levels) and not np.all(levels[0].alpha > 0):
        raise PersonError(
            f"dpm_solver_v3 needs alpha > 0, but the grid starts at t = {np.max(levels[0].t):g} "
            "where alpha = 0: start later"
        )
    if statistics is None:
        return ModelStatistics(np.array([-1.0, 1.0]), np.ones(2), np.zeros(2))
    table = _checked_table(statistics.half_log_snr, 2)
    ends = [levels[0].half_log_snr, levels[-1].half_log_snr]
    if is_known(levels) and not (
        table[0] - SLACK <= np.min(ends[0]) and np.max(ends[1]) <= table[-1] + SLACK
    ):
        raise PersonError(
            f"the grid has half log-SNR {np.min(ends[0]):g} to {np.max(ends[1]):g}, but the "
            f"statistics cover {table[0]:g} to {table[-1]:g}"
        )
    return statistics


#: How far, in half log-SNR, a grid may overshoot the table by rounding, in float32 too; it is
#: extrapolated there.
SLACK = 1e-4


def _checked_table(half_log_snr, least):
    table = np.asarray(half_log_snr, np.float64)
    if table.ndim != 1 or len(table) < least or not (np.diff(table) > 0).all():
        raise PersonError(
            f"half_log_snr must rise, with at least {least} entries, got shape {table.shape}"
        )
    return table

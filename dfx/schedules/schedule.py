"""What a schedule is, and the notation of the whole library.

A schedule says how data become noise. With t = 0 the data and t = `end_time` the noise,

    x_t = alpha(t) x0 + beta(t) y + sigma(t) eps,        eps ~ N(0, I),

where x0 is a data point and y the endpoint of a mean term (beta = 0 for ordinary diffusion):

    velocity      d x_t / dt = alpha_dot x0 + beta_dot y + sigma_dot eps, towards the noise.
    score         grad_x log p_t(x) = -E[eps | x_t = x] / sigma.
    log_snr       log(alpha^2 / sigma^2), strictly falling in t (Kingma et al. 2021).
    half_log_snr  log(alpha / sigma), the lambda of DPM-Solver (Lu et al. 2022).
    v             alpha eps - sigma x0 (Salimans & Ho 2022).

The batch axis comes first: x has shape (n, *sample). A schedule is a pytree of numbers whose
methods are pure; alpha, beta and sigma (or sigma^2) are written once, in closed form, and
everything else follows by `jax.jvp`.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError


class Level(NamedTuple):
    """A noise level: a time with the coefficients of x_t and their derivatives per unit time.

    Entries broadcast against x by NumPy's rules: shape () for one time, (n, 1, .., 1) for one per
    sample, (n, T, 1) for one per token. `Schedule.at` makes them.
    """

    t: Any
    alpha: Any
    beta: Any
    sigma: Any
    alpha_dot: Any
    beta_dot: Any
    sigma_dot: Any

    @property
    def half_log_snr(self):
        """log(alpha / sigma): +inf without noise, -inf without signal."""
        xp = jnp if _holds_jax((self.alpha, self.sigma)) else np
        with np.errstate(divide="ignore"):
            return xp.log(self.alpha) - xp.log(self.sigma)

    @property
    def log_snr(self):
        """log(alpha^2 / sigma^2)."""
        return 2 * self.half_log_snr

    @property
    def snr(self):
        """alpha^2 / sigma^2; sigma must not be zero."""
        return (self.alpha / self.sigma) ** 2

    def astype(self, dtype) -> Level:
        """Return the level with JAX entries of that dtype, so that float32 data stay float32.

        >>> CLEAN.astype(np.float32).alpha.dtype
        dtype('float32')
        """
        return Level(*(jnp.asarray(a, dtype) for a in self))


#: The level of clean data: x_t = x0. Its derivatives are unknown (NaN).
CLEAN = Level(0.0, 1.0, 0.0, 0.0, np.nan, np.nan, np.nan)


def expand(t, ndim: int):
    """Return t with trailing axes of size one up to rank `ndim`, to broadcast against such an x.

    >>> expand(np.zeros(3), 2).shape
    (3, 1)
    """
    return t.reshape(t.shape + (1,) * (ndim - t.ndim)) if 0 < t.ndim < ndim else t


class Schedule:
    """Base of all schedules: a frozen dataclass of numbers with `alpha` and `sigma` (and `beta`).

    A new one is a few lines; `dfx.pytree.pytree` makes it a pytree:

        @pytree
        @dataclasses.dataclass(frozen=True)
        class Linear(Schedule):
            def alpha(self, t):
                return 1 - t

            def sigma(self, t):
                return t

    The methods are written in jnp and act on each entry of t. Where sigma starts like the square
    root of t, write `variance` instead of `sigma`: its derivative, and so the diffusion, is then
    finite at t = 0.
    """

    @property
    def has_mean(self) -> bool:
        """Whether there is a mean term: whether the class has a `beta` of its own."""
        return type(self).beta is not Schedule.beta

    @property
    def end_time(self):
        """The time of the noise; t runs over [0, end_time]."""
        return 1.0

    def alpha(self, t):
        """Coefficient of x0 at time t, same shape as t."""
        raise NotImplementedError(f"{type(self).__name__} does not define alpha")

    def beta(self, t):
        """Coefficient of the mean term y at time t; zero for ordinary diffusion."""
        return jnp.zeros_like(t)

    def sigma(self, t):
        """Standard deviation of the noise at time t, same shape as t; the root of `variance`."""
        return jnp.sqrt(self.variance(t))

    def variance(self, t):
        """sigma^2 at time t, same shape as t."""
        if type(self).sigma is Schedule.sigma:
            raise NotImplementedError(f"{type(self).__name__} defines neither sigma nor variance")
        return self.sigma(t) ** 2

    def at(self, t, ndim: int | None = None) -> Level:
        """Return the level at time t.

        Numbers and NumPy arrays give float64 NumPy entries, whatever JAX's default precision and
        also while something else is being traced; a JAX array gives JAX entries of its dtype
        (float32 at least).

        Args:
          t: times in [0, end_time], any shape.
          ndim: the rank of x; t is expanded by trailing axes, so that entries broadcast against x.
        """
        if ndim is not None:
            t = expand(t if isinstance(t, jax.Array) else np.asarray(t, np.float64), ndim)
        return _level(self, t)


@contextlib.contextmanager
def on_host():
    """Compute in float64 on the CPU at once, even inside a trace: where coefficients are made."""
    with (
        jax.enable_x64(True),
        jax.default_device(jax.local_devices(backend="cpu")[0]),
        jax.ensure_compile_time_eval(),
    ):
        yield


def numpy_or_jax(function):
    """Make a jnp function of (schedule, t) answer in the kind it is asked in.

    With plain numbers throughout it answers in float64 NumPy, computed `on_host`; with a JAX array,
    in the schedule or as t, in JAX with the dtype of t (float32 at least). `function` acts on each
    entry of t.
    """
    jitted = jax.jit(function)

    @functools.wraps(function)
    def either(schedule, t):
        if _holds_jax((schedule, t)):
            t = jnp.asarray(t)
            schedule = jax.tree.map(_as_jax, schedule)
            return jitted(schedule, t.astype(jnp.promote_types(t.dtype, jnp.float32)))
        # Copies, as in `_as_jax`.
        schedule, t = jax.tree.map(np.array, schedule), np.array(t, np.float64)
        with on_host():
            leaves, structure = jax.tree.flatten(schedule)
            if _is_entrywise(function, structure, tuple(leaf.shape for leaf in leaves)):
                value = jax.tree.map(np.asarray, jitted(schedule, _pad(t)))
                return jax.tree.map(lambda a: a[: t.size].reshape(t.shape)[()], value)
            return jax.tree.map(lambda a: np.asarray(a)[()], jitted(schedule, t))

    return either


@numpy_or_jax
def _level(schedule: Schedule, t) -> Level:
    one = jnp.ones_like(t)
    values, dots = zip(
        *(jax.jvp(f, (t,), (one,)) for f in (schedule.alpha, schedule.beta, schedule.sigma))
    )
    return Level(t, *values, *dots)


def _as_jax(leaf):
    """Return a NumPy array as a JAX array, anything else as it is.

    A copy: an array that was used in float32 could come back as that where float64 is on, since jax
    0.10 keeps what it has made of an array by the identity of the array.
    """
    return jnp.asarray(np.array(leaf)) if isinstance(leaf, np.ndarray) else leaf


def is_known(tree) -> bool:
    """Return whether the numbers of a tree can be looked at: none is that of a trace."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_mean(beta, y, where: str) -> None:
    """Raise PersonError if y is None, but beta (or its derivative) is known not to be 0."""
    if y is None and is_known(beta) and np.any(np.abs(np.asarray(beta)) > 0):
        raise PersonError(f"this schedule has a mean term (beta is not 0): give y to {where}")


def check_endpoint(schedule, y, where: str) -> None:
    """Raise PersonError if the schedule has a mean term and y is None."""
    if y is None and schedule.has_mean:
        raise PersonError(f"{schedule!r} has a mean term: give y to {where}")


def _holds_jax(tree) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(tree))


@functools.cache  # a trace is a millisecond or two, and a tableau asks for every level of its grid
def _is_entrywise(function, structure, shapes: tuple[tuple[int, ...], ...]) -> bool:
    """Whether one time gives one number: false where coefficients are arrays, as in a basis."""
    schedule = structure.unflatten(np.zeros(shape) for shape in shapes)
    value = jax.eval_shape(function, schedule, np.float64(0))
    return all(a.shape == () for a in jax.tree.leaves(value))


def _pad(t: np.ndarray) -> np.ndarray:
    """Flatten, and fill with zeros to a power of two: a few compilations serve all lengths."""
    size = 1 << max(6, (t.size - 1).bit_length())
    return np.pad(t.ravel(), (0, size - t.size))

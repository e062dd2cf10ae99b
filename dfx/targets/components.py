"""The components of a Gaussian mixture seen from noisy points: where the rounding is fought.

With x_t = alpha x0 + sigma eps, a component N(m_k, S_k) becomes N(alpha m_k, C_k) with
C_k = alpha^2 S_k + sigma^2 I, and everything a mixture knows follows from log pi_k +
log N(x; alpha m_k, C_k). As it stands, |x - alpha m_k|^2 loses the small differences between
components in a large common part. So each point x gets a reference point c of its own, the
projection of x / alpha on the box of the means, and with

    u = x - alpha c,    w_k = m_k - c,    x - alpha m_k = u - alpha w_k,

the common part is taken off before anything is rounded. In a coordinate in which all S_k are
diagonal, with variances v_k = alpha^2 s_k + sigma^2, a reference variance v and
delta_k = (v - v_k) / v_k,

    -(u - alpha w_k)^2 / (2 v_k) = -q + g_k + delta_k (g_k - q),
    g_k = w_k (alpha u / v - alpha^2 w_k / (2 v)),    q = u^2 / (2 v).

This holds for every c, so c carries no gradient. What is left is the rounding of g_k, about
1e-7 alpha |w_k| |u| / v: points halfway between components 40 standard deviations apart, say, know
their responsibilities to 3e-5 in float32.

Arrays have the layout (coordinate, component, sample): sums over components then vectorise over
samples. A size of one stands for "the same for all".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.targets.arithmetic import closeness, difference, einsum, residual, split, sum_rows


class Part(NamedTuple):
    """Coordinates in which every component has a diagonal covariance.

    `mean + low - centre` is w_k, `shift` is u, `variance` is s_k, and `reference` is the s of the
    reference variance. `low` is None, or what float32 has cut off from the means. Shapes: mean
    (j, k, 1 or n), centre (1 or j, 1, 1 or n), shift (j, 1 or k, n), variance (1 or j, 1 or k, 1),
    reference (1 or j, 1, 1). `size` is the dimension of the part.
    """

    mean: Any
    low: Any
    centre: Any
    shift: Any
    variance: Any
    reference: Any
    size: int

    def displacement(self):
        """All w_k, shape (j, k, n)."""
        return difference(self.mean, self.low, self.centre)


class Components(NamedTuple):
    """A mixture seen from n points at one level.

    `basis` is None, or orthonormal columns, (1 or k, d, r): the coordinates of the first part. The
    second part, if there is one, is what is orthogonal to them.
    """

    log_weights: Any
    alpha: Any
    sigma: Any
    centre: Any
    shift: Any
    parts: tuple[Part, ...]
    basis: Any

    @property
    def shared(self) -> bool:
        """Whether all components have the same covariance, known from the shapes alone."""
        return self.parts[0].variance.shape[1] == 1

    def noisy(self, variance):
        """alpha^2 s + sigma^2."""
        return self.alpha**2 * variance + self.sigma**2

    def precision(self, part: Part):
        """1 / v_k, the eigenvalues of C_k^-1."""
        return 1 / self.noisy(part.variance)

    def excess(self, part: Part):
        """delta_k = (v - v_k) / v_k, at least zero; v is the largest of the v_k."""
        return self.alpha**2 * (part.reference - part.variance) * self.precision(part)


class Rounded(NamedTuple):
    """The parameters of a mixture and a level in the dtype of the points.

    `means_low` and `alpha_low` are None, or what rounding has cut off. Shapes are those of the
    mixture and of the level.
    """

    log_weights: Any
    means: Any
    means_low: Any
    variance: Any
    spectrum: Any
    basis: Any
    alpha: Any
    alpha_low: Any
    sigma: Any


def rounded(mixture, level, dtype) -> Rounded:
    """Return the parameters in that dtype; to be called where float64 is still at hand."""
    cast = lambda a: None if a is None else jnp.asarray(a, dtype)  # noqa: E731
    means, means_low = split(mixture.means, dtype)
    alpha, alpha_low = split(level.alpha, dtype)
    weights, sigma = cast(mixture.log_weights), cast(level.sigma)
    variance, spectrum, basis = map(cast, (mixture.variance, mixture.spectrum, mixture.basis))
    return Rounded(
        weights, means, means_low, variance, spectrum, basis, alpha, alpha_low, sigma
    )  # fmt: skip


def see(law: Rounded, x, centre=None) -> Components:
    """Return the components seen from the points x, shape (n, d), of the dtype of the parameters.

    `centre` are the reference points, shape (d, 1, n); None puts them where the text above says.
    """
    dim = law.means.shape[1]
    if x.ndim != 2 or x.shape[1] != dim:
        raise PersonError(f"points must have shape (n, {dim}), got {x.shape}")
    mean, low = jax.tree.map(lambda a: a.T[:, :, None], (law.means, law.means_low))
    alpha, alpha_low, sigma = jax.tree.map(_place, (law.alpha, law.alpha_low, law.sigma))
    x = x.T[:, None, :]
    if centre is None:
        tiny = float(jnp.finfo(x.dtype).tiny) ** 0.5
        box = mean.min(1, keepdims=True), mean.max(1, keepdims=True)
        centre = jnp.clip(x / jnp.maximum(alpha, tiny), *box)
    centre = jax.lax.stop_gradient(centre)
    shift = residual(x, alpha, alpha_low, centre)
    if law.basis is not None and (alpha.shape[0] > 1 or sigma.shape[0] > 1):
        raise PersonError("a level with one entry per coordinate needs a mixture without a basis")
    parts = _parts(law, mean, low, centre, shift)
    return Components(law.log_weights[:, None], alpha, sigma, centre, shift, parts, law.basis)


def focus(law: Rounded, x) -> Components:
    """Return the components seen from x with c moved to the mean of those that matter there.

    Costs a second evaluation; makes the |w_k| small where x is far away.
    """
    weights = jax.nn.softmax(log_joint(see(law, x)), axis=0)
    return see(law, x, einsum("kn,kd->dn", weights, law.means)[:, None])


def log_joint(seen: Components, power: float = 0.0):
    """Return log(pi_k N(x; alpha m_k, C_k)) up to `log_common`, shape (k, n).

    With `power` p and isotropic covariances, each component is also multiplied by v_k^-p.
    """
    total = seen.log_weights
    for part in seen.parts:
        ref = seen.noisy(part.reference)
        slope, curvature = seen.alpha * part.shift / ref, seen.alpha**2 / (2 * ref)
        rows = (part.mean, part.low, part.centre, slope, curvature)
        if seen.shared:
            total = total + sum_rows(closeness, *rows)
            continue
        excess, far = seen.excess(part), part.shift**2 / (2 * ref)
        total = total + sum_rows(_closeness_of_unequal, *rows, excess, far)
        copies = part.size / excess.shape[0]
        total = total + (0.5 * copies + power) * jnp.log1p(excess).sum(0)
    return total


def log_common(seen: Components):
    """Return what `log_joint` leaves out, shape (n,): log N(u; 0, v) of the reference variances."""
    parts = seen.parts
    if seen.basis is not None and not seen.shared:  # the reference is isotropic: no need to rotate
        parts = (parts[0]._replace(shift=seen.shift, size=seen.shift.shape[0]),)
    total: Any = 0.0
    for part in parts:
        ref = seen.noisy(part.reference)
        log_det = jnp.log(2 * jnp.pi * ref).sum(0) * (part.size / ref.shape[0])
        total = total - 0.5 * log_det - (part.shift**2 / (2 * ref)).sum(0)
    return total[0]


def apply(seen: Components, f: Callable, at: str):
    """Return F_k z_k for every component, shape (d, k, n).

    Args:
      f: part -> the eigenvalues of F_k in its coordinates.
      at: what z_k is, the "displacement" w_k or the "shift" u.
    """
    displaced = at == "displacement"
    out = [f(part) * (part.displacement() if displaced else part.shift) for part in seen.parts]
    if seen.basis is None:
        return out[0]
    return sum(out[1:], einsum("kdr,rkn->dkn", seen.basis, out[0]))


def average(seen: Components, weights, f: Callable, at: str):
    """Return sum_k weights_k F_k z_k, shape (d, n); weights: (k, n), f and z as for `apply`."""
    if seen.basis is not None:
        return (weights * apply(seen, f, at)).sum(1)
    (part,) = seen.parts
    coefficients = jnp.swapaxes(weights * f(part), 0, 1)
    if at == "shift":
        return coefficients.sum(0) * part.shift[:, 0]
    mean, low = (None if a is None else jnp.swapaxes(a, 0, 1) for a in (part.mean, part.low))
    return sum_rows(_weighted, coefficients, mean, low, jnp.swapaxes(part.centre, 0, 1))


def average_matrix(seen: Components, weights, f: Callable):
    """Return sum_k weights_k F_k, shape (n, d, d); f as for `apply`."""
    diagonal = (weights * f(seen.parts[-1])).sum(1).T  # (n, 1 or d)
    identity = jnp.eye(seen.shift.shape[0], dtype=seen.shift.dtype)
    if seen.basis is None:
        return diagonal[:, :, None] * identity
    inside = weights * f(seen.parts[0])
    basis = jnp.broadcast_to(seen.basis, (weights.shape[0], *seen.basis.shape[1:]))
    out = einsum("kir,rkn,kjr->nij", basis, inside, basis)
    if len(seen.parts) == 1:
        return out
    outside = (weights * f(seen.parts[1]))[0]
    return out + diagonal[:, :, None] * identity - einsum("kir,kn,kjr->nij", basis, outside, basis)


def spread(seen: Components, weights, scale):
    """Return the covariance under the weights of scale C_k^-1 (w_k - u / alpha), shape (n, d, d).

    With scale alpha, that vector is the score of the component; with sigma^2 it is the posterior
    mean up to a constant. What all components have in common is left out: it would only be rounded.
    """

    def differ(part):
        gap = part.reference - part.variance
        return seen.alpha * gap * seen.precision(part) / seen.noisy(part.reference)

    vectors = apply(seen, seen.precision, "displacement") - apply(seen, differ, "shift")
    vectors = scale * vectors
    for _ in range(2):  # the second time takes off the rounding of the first mean
        vectors = vectors - (weights * vectors).sum(1, keepdims=True)
    return einsum("kn,ikn,jkn->nij", weights, vectors, vectors)


def _closeness_of_unequal(mean, low, centre, slope, curvature, excess, far):
    g = closeness(mean, low, centre, slope, curvature)
    return g + excess * (g - far)


def _weighted(coefficient, mean, low, centre):
    return coefficient * difference(mean, low, centre)


def _parts(law: Rounded, mean, low, centre, shift) -> tuple[Part, ...]:
    variance, basis = law.variance[None, :, None], law.basis
    inside, dim = variance, mean.shape[0]
    if law.spectrum is not None:
        inside = variance + law.spectrum.T[:, :, None]
    shared = inside.shape[1] == 1
    if basis is None:
        reference = inside if shared else _largest(inside, 1)
        return (Part(mean, low, centre, shift, inside, reference, dim),)
    w, zero = difference(mean, low, centre), jnp.zeros((1, 1, 1), shift.dtype)
    turned = [einsum("kdr,dkn->rkn", basis, z) for z in (w, shift)]
    reference = inside if shared else _largest(inside, (0, 1))
    first = Part(turned[0], None, zero, turned[1], inside, reference, basis.shape[2])
    if basis.shape[2] == dim:
        return (first,)
    rest = [z - einsum("kdr,rkn->dkn", basis, y) for z, y in zip((w, shift), turned, strict=True)]
    reference = variance if shared else reference
    return first, Part(rest[0], None, zero, rest[1], variance, reference, dim - basis.shape[2])


def _largest(variances, axis):
    """The reference variance; everything holds for any, so it carries no gradient."""
    return jax.lax.stop_gradient(variances).max(axis, keepdims=True)


def _place(entry):
    """A level's entry, () or (n, 1) or (d,), in the layout (1 or d, 1, 1 or n)."""
    return jnp.atleast_2d(entry).T[:, None, :]

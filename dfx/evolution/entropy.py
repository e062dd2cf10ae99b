"""Relative entropy and how fast it changes along a pair of motions; entropy production.

A law p that obeys dp/dt = -div(b p) + D Laplacian p is carried by the velocity

    v = b - D grad log p,        dp/dt = -div(p v).

For two laws p and q with velocities v_p and v_q

    d/dt KL(p | q) = E_p[(v_p - v_q) . grad log(p / q)],

and every rate here is this identity with its parts named. Expectations are sums over points with
weights: the cells of a grid with p times the volume, the nodes of a quadrature or samples. Scores
and velocities have shape (n, d), weights (n,); they are divided by their sum. Rates are nats per
unit of the time in which b and D move the law: along falling t, dx = b dt, turn the sign of b.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp


class Rates(NamedTuple):
    """d/dt KL(p | q) and its parts, nats per unit of time.

    Attributes:
      drift: E_p[(b_p - b_q) . grad log(p / q)], the work of the difference of the drifts.
      dissipation: -D_p I(p | q), never positive: the common noise forgets.
      mismatch: -(D_p - D_q) E_p[grad log q . grad log(p / q)], of different noises.
    """

    drift: jnp.ndarray
    dissipation: jnp.ndarray
    mismatch: jnp.ndarray

    @property
    def total(self):
        """The sum of the parts."""
        return self.drift + self.dissipation + self.mismatch


class Production(NamedTuple):
    """The entropy balance d/dt H(p) = produced - exported, nats per unit of time.

    Attributes:
      produced: E_p |v|^2 / D >= 0, zero exactly in detailed balance, v = 0.
      exported: E_p[b . v] / D, what the drift hands to its surroundings.
    """

    produced: jnp.ndarray
    exported: jnp.ndarray

    @property
    def entropy_rate(self):
        """d/dt of H(p) = -E_p log p."""
        return self.produced - self.exported


def relative_entropy(weights, log_p, log_q):
    """Return KL(p | q) = E_p log(p / q) in nats, from log-densities at points, shape (n,)."""
    # A cell where p underflows counts as 0, whatever its logarithms.
    return _mean(weights, jnp.where(weights > 0, log_p - log_q, 0))


def relative_fisher(weights, score_p, score_q):
    """Return I(p | q) = E_p |grad log(p / q)|^2, from scores (n, d)."""
    return _dot(weights, score_p - score_q, score_p - score_q)


def current_velocity(drift, diffusion, score):
    """Return v = b - D grad log p, which carries p as its motion does, shape (n, d)."""
    return drift - diffusion * score


def gradient_flow_velocity(score, target_score):
    """Return -grad log(p / pi), the velocity of the Wasserstein gradient flow of KL(. | pi).

    Along it d/dt KL(p | pi) = -I(p | pi). A forward process f x dt + g dw with the invariant law
    pi moves by g^2 / 2 times it. Source: Jordan, Kinderlehrer & Otto 1998.
    """
    return target_score - score


def relative_entropy_rate(weights, velocity_gap, score_p, score_q):
    """Return d/dt KL(p | q) = E_p[(v_p - v_q) . grad log(p / q)].

    Args:
      weights: of p.
      velocity_gap: v_p - v_q at the points, (n, d). With p exact and q carried by v + e it is -e;
        its part with div(p e) = 0 adds nothing.
      score_p, score_q: (n, d).
    """
    return _dot(weights, velocity_gap, score_p - score_q)


def relative_entropy_parts(
    weights, drift_gap, score_p, score_q, diffusion_p, diffusion_q=None
) -> Rates:
    """Return d/dt KL(p | q) of two laws with motions of their own, in parts.

    Args:
      weights: of p.
      drift_gap: b_p - b_q at the points, (n, d). For the law p of a sampler with score s + e and
        the exact q, run from the noise to the data, it is (1 + lam^2)/2 g^2 e.
      score_p, score_q: (n, d).
      diffusion_p, diffusion_q: D of each, numbers; None is that of p.
    """
    ratio = score_p - score_q
    mismatch = 0.0 if diffusion_q is None else diffusion_p - diffusion_q
    return Rates(
        _dot(weights, drift_gap, ratio),
        -diffusion_p * _dot(weights, ratio, ratio),
        -mismatch * _dot(weights, score_q, ratio),
    )


def entropy_production(weights, drift, diffusion, score) -> Production:
    """Return the entropy balance of a motion with noise, D > 0.

    Args:
      weights: of p.
      drift: b at the points, (n, d).
      diffusion: D, a positive number.
      score: grad log p, (n, d).

    Source: Seifert 2005 (stochastic thermodynamics), with the temperature set to 1.
    """
    velocity = current_velocity(drift, diffusion, score)
    return Production(
        _dot(weights, velocity, velocity) / diffusion, _dot(weights, drift, velocity) / diffusion
    )


def gap_bound(times, lipschitz, diffusion, fisher):
    """Return a bound of W_2 between the laws of the SDE (lam = 1) and the ODE of one field:

        W_2 <= int_0^T exp(int_0^t l du) D (E |grad w|^2)^{1/2} dt,     w = log p_SDE - phi,

    with D = g^2 / 2, phi the potential of the field's score, the mean under p_SDE, and l(t) the
    largest one-sided Lipschitz constant in space of the reversed ODE, sup of the largest eigenvalue
    of sym(-grad v). By the trapezoidal rule, order 2. Equality for linear scores in one dimension.

    Args:
      times: rising from the data to the noise, shape (m,).
      lipschitz, diffusion, fisher: l, D and E |grad w|^2 at the times, shape (m,).

    Source: Grönwall's inequality for the velocities v_ODE and v_SDE = v_ODE + (g^2/2) grad w, both
    in forward time. Deveney et al. 2023 bound the same gap by other quantities.
    """
    dt = jnp.diff(times)
    growth = jnp.cumsum(0.5 * (lipschitz[1:] + lipschitz[:-1]) * dt)
    growth = jnp.concatenate([jnp.zeros_like(growth[:1]), growth])
    integrand = jnp.exp(growth) * diffusion * jnp.sqrt(fisher)
    return jnp.sum(0.5 * (integrand[1:] + integrand[:-1]) * dt)


def _dot(weights, a, b):
    return _mean(weights, jnp.sum(a * b, axis=-1))


def _mean(weights, values):
    weights = jnp.ravel(weights)
    # 0 times an infinite score is 0 here.
    return jnp.sum(jnp.where(weights > 0, weights * values, 0)) / jnp.sum(weights)

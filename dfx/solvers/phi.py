"""Exponential quadrature: the phi functions, and what solvers in half log-SNR are built from.

With lambda = half log-SNR and h = lambda_t - lambda_s, the probability-flow equation has two exact
solutions (Lu et al. 2022a, eq. 3.4; 2022b, eq. 8),

    x_t = (alpha_t / alpha_s) x_s - sigma_t int exp(lambda_t - lambda) eps_hat dlambda    (noise)
    x_t = (sigma_t / sigma_s) x_s + alpha_t int exp(lambda - lambda_t) x0_hat  dlambda    (data)

over [lambda_s, lambda_t]. A solver puts a polynomial in lambda through predictions that it has. All
then rests on the moments

    int exp(rate (lambda_t - lambda)) (lambda - lambda_s)^k dlambda = k! h^(k+1) phi_{k+1}(rate h)

with rate 1 for noise, -1 for data and -(1 + tau^2) for the stochastic equation. The constant part
of the polynomial is the DDIM step in both forms; `correction` is the rest.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx.solvers.recorder import Lin
from dfx.solvers.steps import namespace, ratio

#: Terms of the series of phi for |z| < 1: the first one left out is below 1 / 19!, 1e-17.
SERIES_TERMS = 19


def phi(k: int, z):
    """Return phi_k(z), phi_0 = exp and phi_{k+1}(z) = (phi_k(z) - 1 / k!) / z, phi_k(0) = 1 / k!.

    The integral over [0, 1] of exp((1 - u) z) u^(k-1) / (k-1)!. By its series for |z| < 1, by the
    recursion beyond: in float64 the relative error is below 1e-13 up to k = 5.

    Args:
      k: 0, 1, 2, ...
      z: numbers of any sign and shape, NumPy or JAX.

    Source: Hochbruck & Ostermann 2010, section 2.

    >>> float(phi(2, 0.0))
    0.5
    """
    xp = jnp if isinstance(z, jax.Array) else np
    is_small = abs(z) < 1
    near, far = xp.where(is_small, z, 0.0), xp.where(is_small, 1.0, z)
    series, value = 0.0 * near, xp.exp(far)
    for n in reversed(range(SERIES_TERMS)):
        series = series * near + 1 / math.factorial(n + k)
    for j in range(k):
        value = (value - 1 / math.factorial(j)) / far
    return xp.where(is_small, series, value)[()]


def moments(count: int, h, rate: float, scale=1.0) -> list:
    """Return scale k! h^(k+1) phi_{k+1}(rate h) for k = 0 to count - 1, see the module."""
    return [scale * math.factorial(k) * h ** (k + 1) * phi(k + 1, rate * h) for k in range(count)]


def gap(s, t):
    """Return h = lambda_t - lambda_s, and 0 where it is not finite: sigma_t = 0 or alpha_s = 0.

    Where h is 0 all moments are, and the nodes of a polynomial that coincide count as one: a step
    to clean data or from pure noise is then first order, and a token that stands still stays.
    """
    xp = namespace([s])
    is_finite = (t.sigma > 0) & (s.alpha > 0)
    of_alpha = xp.where(is_finite, t.alpha, 1.0) / xp.where(is_finite, s.alpha, 1.0)
    of_sigma = xp.where(is_finite, t.sigma, 1.0) / xp.where(is_finite, s.sigma, 1.0)
    return (xp.log(of_alpha) - xp.log(of_sigma))[()]


def shrink(s, t):
    """Return exp(-h) = alpha_s sigma_t / (alpha_t sigma_s); 0 to clean data and from pure noise."""
    return ratio(s.alpha * t.sigma, t.alpha * s.sigma)


def ddim_step(x, x0, s, t, kept=1.0) -> Any:
    """Return alpha_t x0 + kept sigma_t eps with eps = (x - alpha_s x0) / sigma_s.

    With all of eps kept it is the step of order 1 in both forms. Linear in (x, x0), which may be
    linear forms or arrays.
    """
    of_x = kept * ratio(t.sigma, s.sigma)
    return of_x * x + (t.alpha - of_x * s.alpha) * x0


def noise_step(x: Lin, eps: Lin, s, t) -> Lin:
    """Return (alpha_t / alpha_s) x - sigma_t (exp(h) - 1) eps; needs alpha_s > 0.

    The same as `ddim_step` where eps was found at x; a solver that remembers eps, or corrects x,
    needs it in this form.
    """
    growth = t.alpha / s.alpha
    return growth * x + (t.sigma - growth * s.sigma) * eps


def correction(integrals: list, nodes: list, values: list, line=None) -> Any:
    """Return the integral of the polynomial through (nodes, values) less that of values[0].

    In Newton's form: the sum over j >= 1 of the j-th divided difference times the integral of the
    product of (lambda - nodes[i]) over i < j. Differences over nodes that coincide are left out.

    Args:
      integrals: `moments`, those of (lambda - nodes[0])^k, at least as many as nodes.
      nodes: half log-SNR of the values, up to a common shift; nodes[0] is the start of the step.
      values: linear forms.
      line: what takes the place of integrals[1] where the polynomial is a line; None for nothing.

    Returns:
      A linear form; 0 for a single node.
    """
    total: Any = 0
    differences = list(values)
    product = [1.0]  # of (v - offset), v = lambda - nodes[0]: coefficients of 1, v, v^2, ..
    is_distinct: Any = True
    for j in range(1, len(values)):
        offset = nodes[j - 1] - nodes[0]
        product = [a - offset * b for a, b in zip([0.0, *product], [*product, 0.0])]
        is_distinct = is_distinct & _all(nodes[j] != node for node in nodes[:j])
        differences = [
            _inverse(nodes[i] - nodes[i + j]) * (a - b)
            for i, (a, b) in enumerate(itertools.pairwise(differences))
        ]
        weight = sum(c * integral for c, integral in zip(product, integrals))
        if j == 1 and line is not None:
            weight = line if len(nodes) == 2 else _if_distinct(nodes, weight, line)
        total = total + (is_distinct * weight) * differences[0]
    return total


def make_corrector(base: Lin, integrals: list, nodes: list, values: list, node, line=None):
    """Return the function value -> base + correction, with one more value, at `node`, as second."""

    def correct(value):
        more = [nodes[0], node, *nodes[1:]], [values[0], value, *values[1:]]
        return base + correction(integrals, *more, line)

    return correct


def order_of_step(order: int, step: int, steps: int, clean: bool, lower_order_final: bool) -> int:
    """Return the order of step number `step` of `steps`: as many values as there are, at most.

    Args:
      order: the order asked for.
      clean: the last step reaches sigma = 0, where there is first order only.
      lower_order_final: no more than the number of steps left.
    """
    left = steps - step
    if clean and left == 1:
        return 1
    return min(order, step + 1, left if lower_order_final else order)


def _if_distinct(nodes, parabola, line):
    """The first if nodes[2] is another node than the two before it, otherwise the second."""
    xp = jnp if isinstance(nodes[2], jax.Array) or isinstance(line, jax.Array) else np
    return xp.where((nodes[2] != nodes[0]) & (nodes[2] != nodes[1]), parabola, line)[()]


def _all(conditions):
    result: Any = True
    for condition in conditions:
        result = result & condition
    return result


def _inverse(a):
    xp = jnp if isinstance(a, jax.Array) else np
    return xp.where(a == 0, 0.0, 1 / xp.where(a == 0, 1.0, a))[()]

"""The space and time discretisation of a Fokker-Planck equation along one axis.

The flux through the face between cells k and k + 1, with b and D on the face and h the spacing, is
that of the equation with constant coefficients between the two centres:

    F = up p_k - down p_{k+1},   up = D/h^2 B(-z),  down = D/h^2 B(z),  z = b h / D,
    B(z) = z / (exp(z) - 1),

per cell and unit of time. It is of order 2 in h, exact in equilibrium where b / D is constant
between centres, and both rates are positive whatever the size of z: dp/dt = A p is a Markov chain
on the cells. Without diffusion it is the upwind flux, of order 1. Nothing leaves the box.

Source: Scharfetter & Gummel 1969; Chang & Cooper 1970.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def jump_rates(velocity, diffusion, spacing):
    """Return the rates (up, down) across faces, shape of `velocity`, per unit of time.

    Args:
      velocity: b on the faces.
      diffusion: D >= 0, a number.
      spacing: h.
    """
    safe = jnp.where(diffusion > 0, diffusion, 1)
    z = jnp.abs(velocity) * spacing / safe
    # B(|z|) <= 1; exp overflows to infinity and B to its limit 0.
    bernoulli = jnp.where(z > 0, z / jnp.expm1(jnp.where(z > 0, z, 1)), 1)
    slow = jnp.where(diffusion > 0, diffusion * bernoulli, 0) / spacing**2
    return (
        slow + jnp.maximum(velocity, 0) / spacing,
        slow + jnp.maximum(-velocity, 0) / spacing,
    )


def implicit_euler(p, up, down, dt):
    """Return p after a step, (1 - dt A)^-1 p; order 1, positive for every dt.

    Args:
      p: cell averages, shape (..., cells).
      up, down: the rates, shape (..., cells - 1).
      dt: length of the step, positive.
    """
    return _solve(p, dt * up, dt * down)


def crank_nicolson(p, up, down, dt):
    """Return (1 - dt/2 A)^-1 (1 + dt/2 A) p; order 2, positive where dt (up + down) <= 2 per cell.

    For longer steps the parts of p that are rough on the grid change sign from step to step; a
    smooth p stays positive up to about the error of the step.
    """
    flux = up * p[..., :-1] - down * p[..., 1:]
    change = _pad(flux, 1, 0) - _pad(flux, 0, 1)
    return _solve(p + 0.5 * dt * change, 0.5 * dt * up, 0.5 * dt * down)


def patankar(p, up, down, dt):
    """Return p after a step of the modified Patankar-Runge-Kutta method; order 2, positive for
    every dt.

    With q = (1 - dt A)^-1 p, each flux of the trapezoidal rule, A (p + q) / 2, is made implicit by
    the factor p_new / q of its cell: (1 - dt A diag((p + q) / 2 q)) p_new = p. Two solves.

    Source: Burchard, Deleersnijder & Meister 2003 (the second-order scheme).
    """
    q = implicit_euler(p, up, down, dt)
    weight = 0.5 * (1 + jnp.where(q > 0, p, 1) / jnp.where(q > 0, q, 1))
    return _solve(p, dt * up * weight[..., :-1], dt * down * weight[..., 1:])


#: Name -> step (p, up, down, dt) -> p.
METHODS = {
    "crank_nicolson": crank_nicolson,
    "implicit_euler": implicit_euler,
    "patankar": patankar,
}


def _solve(p, up, down):
    """Solve (1 - A) x = p for the chain with rates up, down: columns that sum to 1.

    The matrix is dominated by its diagonal column by column, so that elimination exchanges no rows
    and adds positive numbers alone.
    """
    diagonal = 1 + _pad(up, 0, 1) + _pad(down, 1, 0)
    lower, upper = _pad(-up, 1, 0), _pad(-down, 0, 1)
    return jax.lax.linalg.tridiagonal_solve(lower, diagonal, upper, p[..., None])[..., 0]


def _pad(a, before, after):
    return jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(before, after)])

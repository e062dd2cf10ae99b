"""Families of scalar functions psi_k whose gradients span a space of gradient fields.

A family is a function (n, d) -> (n, m) and a pytree. `joined` puts several together: a score grows
like x far out, which waves and bumps do not follow, so `quadratic` belongs into most families.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.fields.field import as_pytree
from dfx.pytree import pytree
from dfx.targets.arithmetic import einsum


@pytree
@dataclasses.dataclass(frozen=True)
class Fourier:
    """psi_k = cos(w_k . x + b_k) / |w_k|, gradients of size one; made by `fourier`."""

    frequencies: Any
    phases: Any

    def __call__(self, x):
        w = jnp.asarray(self.frequencies, x.dtype)
        waves = jnp.cos(einsum("nd,kd->nk", x, w) + jnp.asarray(self.phases, x.dtype))
        return waves / jnp.linalg.norm(w, axis=1)


@pytree
@dataclasses.dataclass(frozen=True)
class Radial:
    """psi_k = width exp(-|x - c_k|^2 / (2 width^2)); made by `radial`."""

    centres: Any
    width: Any

    def __call__(self, x):
        centres = jnp.asarray(self.centres, x.dtype)
        squares = jnp.sum((x[:, None] - centres) ** 2, axis=-1)
        return self.width * jnp.exp(-squares / (2 * self.width**2))


@pytree
@dataclasses.dataclass(frozen=True)
class Joined:
    """The features of several families side by side; made by `joined`."""

    families: tuple

    def __call__(self, x):
        return jnp.concatenate([family(x) for family in self.families], axis=1)


def quadratic(x):
    """Return x_a and x_a x_b / 2 for a <= b, shape (n, d + d (d + 1) / 2): exact for Gaussians.

    >>> quadratic(jnp.array([[2.0, 3.0]]))
    Array([[2. , 3. , 2. , 3. , 4.5]], dtype=float32)
    """
    first, second = jnp.triu_indices(x.shape[1])
    return jnp.concatenate([x, 0.5 * x[:, first] * x[:, second]], axis=1)


def fourier(key, dim: int, num_features: int, width=1.0, dtype=jnp.float32) -> Fourier:
    """Return random waves: w_k ~ N(0, I / width^2), phases uniform.

    Args:
      key: of the waves.
      dim: d.
      num_features: m.
      width: the length over which the potential is supposed to vary; a number or shape (m, 1).
      dtype: of the draws.

    Raises:
      PersonError: no features.

    Source: Rahimi & Recht 2007.
    """
    if num_features < 1:
        raise PersonError(f"num_features = {num_features}: at least 1 is needed")
    key_w, key_b = jax.random.split(key)
    w = jax.random.normal(key_w, (num_features, dim), dtype) / width
    return Fourier(w, 2 * jnp.pi * jax.random.uniform(key_b, (num_features,), dtype))


def radial(centres, width=1.0) -> Radial:
    """Return Gaussian bumps around the centres, shape (m, d), for example some of the samples."""
    return Radial(centres, width)


def joined(*families: Callable) -> Joined:
    """Return one family made of several."""
    return Joined(tuple(map(as_pytree, families)))

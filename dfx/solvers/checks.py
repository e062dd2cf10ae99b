"""What a run refuses before anything is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx.errors import PersonError
from dfx.fields.convert import check_regular
from dfx.fields.field import FunctionField, NetField
from dfx.fields.guidance import Interval
from dfx.schedules.schedule import Level, is_known
from dfx.solvers.noise import BLOCK


def as_points(x) -> jax.Array:
    """Return x as a JAX array.

    Raises:
      PersonError: it is not floating, or has no batch axis.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 1:
        given = f"{x.dtype}{x.shape}"
        raise PersonError(f"x must be a floating array of shape (n, *sample), not {given}")
    return x


def check_arguments(tableau, x, key, inputs, noise) -> None:
    """Raise PersonError for inputs that do not match, or without a key where one is needed."""
    if len(inputs) != tableau.num_inputs:
        raise PersonError(
            f"this tableau starts from x and {tableau.num_inputs} further inputs, got {len(inputs)}"
        )
    for number, array in enumerate(inputs, 1):
        if array.shape != x.shape:
            raise PersonError(f"input {number} has shape {array.shape}, x has {x.shape}")
    if tableau.stochastic and key is None and noise is None:
        raise PersonError("this solver is stochastic: give a key, or noise")


def check_levels(levels, field) -> None:
    """Raise PersonError if the field holds a net or function without x0_hat at a known level.

    In the trace of a run `convert` cannot see it. A field that chooses by the level what it
    evaluates, an `Interval`, is not looked into.
    """
    kinds = {f.prediction for f in _nets(field, Interval)} - {"x0"}
    for level in levels if kinds else ():
        if isinstance(level, Level) and is_known(level):
            for prediction in kinds:
                check_regular(level, prediction, "x0")


def check_block(block, field, x, noise) -> None:
    """Raise PersonError for a block that is no multiple of 1000, or that does not fit the field."""
    if not block:
        return
    if block < 0 or block % BLOCK or noise is not None:
        raise PersonError(f"block = {block}: a multiple of {BLOCK}, or 0; not together with noise")
    conds = [f.cond for f in _nets(field) if isinstance(f, NetField)]
    each = any(np.shape(leaf)[:1] == x.shape[:1] for leaf in jax.tree.leaves(conds))
    if each and len(x) > block:
        raise PersonError(f"block = {block}: the net has a cond for each sample, so give 0")


def _nets(field, *closed) -> list:
    """The nets and functions of a prediction type in a field, but for those in a `closed` one."""
    kinds = FunctionField, NetField
    leaves = jax.tree.leaves(field, is_leaf=lambda part: isinstance(part, (*kinds, *closed)))
    return [leaf for leaf in leaves if isinstance(leaf, kinds)]

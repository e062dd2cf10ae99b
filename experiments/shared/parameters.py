"""Parameters of a net as named arrays, as a run folder keeps them."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a pytree by the names of their places."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(template: Any, stored: dict[str, np.ndarray]) -> Any:
    """Return the pytree of the form of `template` whose leaves are those that `flatten` named."""
    return jax.tree_util.tree_map_with_path(lambda path, _: stored[_name(path)], template)


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")

"""Random vectors z with E[z z^T] = I: how traces and norms of Jacobians are estimated."""

from __future__ import annotations

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp

from dfx.errors import PersonError, choose

#: Name -> how the entries of a probe are drawn: signs, or standard normal numbers.
PROBES: dict[str, Callable] = {"rademacher": jax.random.rademacher, "normal": jax.random.normal}


def draw_probes(key, x, num_probes: int, probe: str = "rademacher"):
    """Return probes for samples of the shape and dtype of x, shape (num_probes, n, *sample).

    Those of sample i are the same in every batch.

    Args:
      key: a typed key.
      x: shape (n, *sample), floating.
      num_probes: how many for each sample.
      probe: one of `PROBES`.

    Raises:
      PersonError: unknown probe, or none.
    """
    check_probes(num_probes, probe)
    drawn = PROBES[probe](key, (x.shape[0], num_probes, *x.shape[1:]), x.dtype)
    return jnp.moveaxis(drawn, 1, 0)


def check_probes(num_probes: int, probe: str, names: Collection[str] = PROBES) -> None:
    """Raise PersonError unless the probe is one of `names` and there is at least one of it."""
    choose("probe", probe, dict.fromkeys(names))
    if num_probes < 1:
        raise PersonError(f"num_probes = {num_probes}: at least 1 probe is needed")

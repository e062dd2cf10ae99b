"""Fields of laws on vectors, used on pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from dfx.errors import PersonError
from dfx.fields.field import as_pytree, denoiser
from dfx.pytree import pytree
from dfx.schedules.schedule import Level


@pytree
@dataclasses.dataclass(frozen=True)
class Flattened:
    """A field on (n, d) that takes samples of any shape; made by `flattened`."""

    field: Callable

    @property
    def pointwise(self):
        return getattr(self.field, "pointwise", False)

    def __call__(self, x, level: Level):
        n = x.shape[0]
        level = Level(*(_per_sample(entry, n) for entry in level))
        return denoiser(self.field(x.reshape(n, -1), level)).reshape(x.shape)


def flattened(field: Callable) -> Flattened:
    """Return the field on samples of any shape, (n, *sample), of one on vectors, (n, d).

    Samples are flattened in C order, as in `targets.fit`. A level has one entry for all, or one per
    sample.

    Args:
      field: (x, level) -> x0_hat on (n, d), for example `oracle(mixture)`; of a tuple the denoiser
        is taken.

    Raises:
      PersonError: when called at a level with an entry per token.
    """
    return Flattened(as_pytree(field))


def _per_sample(entry, n: int):
    shape = jnp.shape(entry)
    if not shape:
        return entry
    if any(size != 1 for size in shape[1:]) or shape[0] not in (1, n):
        raise PersonError(f"a level of shape {shape} has no single entry per sample")
    return entry.reshape(shape[0], 1)

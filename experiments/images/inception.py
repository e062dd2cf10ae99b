"""The features of Inception, in which published Frechet distances are taken: its weights and
reference statistics come from the person who has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from dfx import data
from dfx.data.dataset import root_of
from dfx.errors import PersonError
from dfx.moments import Moments, given
from dfx.nets import inception
from experiments.shared.judge import in_parts

AT_ONCE = 64
#: Published statistics do not say of how many pictures they are; it counts nowhere here.
UNKNOWN_SIZE = 2


class Inception(NamedTuple):
    """features: pixels (n, h, w, c) uint8 -> (n, 2048). reference: moments of real ones."""

    features: Callable[[np.ndarray], np.ndarray]
    reference: Moments


def paths(config) -> tuple[Path, ...]:
    """Return where weights and reference statistics lie, () if the config names neither.

    Relative names are looked for where data lie, in data.path or DFX_DATA.

    Raises:
      PersonError: one is named without the other.
    """
    names = config.inception.weights, config.inception.reference
    if not any(names):
        return ()
    if not all(names):
        raise PersonError(
            f"settings config.inception.weights = {names[0]!r}, config.inception.reference = "
            f"{names[1]!r}: allowed are both or neither"
        )
    given_paths = [Path(name).expanduser() for name in names]
    return tuple(
        path if path.is_absolute() else root_of(str(path), config.data.path or None) / path
        for path in given_paths
    )


def open_inception(config) -> Inception | None:
    """Return the net and the reference, None if the config names none.

    Raises:
      PersonError: a file is missing, torn, or not what it should be; one line says which.
    """
    found = paths(config)
    if not found:
        return None
    if config.data.latents:
        raise PersonError(
            "setting config.inception.weights: needs pixels, and the data are latents"
        )
    weights = inception.fold(data.read_named(found[0], inception.array_shapes(), "weights"))
    mean, covariance = data.read_statistics(found[1])
    if len(mean) != inception.NUM_FEATURES:
        raise PersonError(
            f"{found[1]}: statistics of {len(mean)} features, allowed: {inception.NUM_FEATURES}"
        )
    reference = given(mean, covariance, UNKNOWN_SIZE)
    return Inception(in_parts(jax.jit(inception.features), weights, AT_ONCE), reference)

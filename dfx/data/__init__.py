"""Real data sets: readers of the standard files, and batches as a pure function of (key, step)."""

from dfx.data.batches import batch, indices, random_flip
from dfx.data.dataset import REGISTRY, Dataset, load
from dfx.data.layout import DataError
from dfx.data.pixels import from_unit, to_unit

__all__ = [
    "REGISTRY",
    "DataError",
    "Dataset",
    "batch",
    "from_unit",
    "indices",
    "load",
    "random_flip",
    "to_unit",
]

"""Real data sets: readers of the standard files, and batches as a pure function of (key, step).

A set that fits is loaded (`load`) and drawn from on the device (`batch`); a larger one stays on
disk (`open_records`) and is read ahead by threads (`Feed`), in the same order.
"""

from dfx.data.array_records import ArrayRecords, array_records, unpack
from dfx.data.augment import CELL, dequantise, draw_latents
from dfx.data.batches import batch, indices, random_flip
from dfx.data.dataset import REGISTRY, Dataset, load
from dfx.data.feed import Batches, Feed
from dfx.data.layout import DataError
from dfx.data.named_arrays import read_named
from dfx.data.npy_shards import NpyShards, npy_shards
from dfx.data.permutation import Order, order
from dfx.data.picture_folder import PictureFolder, picture_folder
from dfx.data.pixels import from_unit, to_unit
from dfx.data.records import HostArrays, Records, faults
from dfx.data.resize import centre_square
from dfx.data.statistics import read_statistics
from dfx.data.stored import RECORDS, open_records
from dfx.data.writers import pack, write_array_records, write_npy_shards

__all__ = [
    "CELL",
    "RECORDS",
    "REGISTRY",
    "ArrayRecords",
    "Batches",
    "DataError",
    "Dataset",
    "Feed",
    "HostArrays",
    "NpyShards",
    "Order",
    "PictureFolder",
    "Records",
    "array_records",
    "batch",
    "centre_square",
    "dequantise",
    "draw_latents",
    "faults",
    "from_unit",
    "indices",
    "load",
    "npy_shards",
    "open_records",
    "order",
    "pack",
    "picture_folder",
    "random_flip",
    "read_named",
    "read_statistics",
    "to_unit",
    "unpack",
    "write_array_records",
    "write_npy_shards",
]

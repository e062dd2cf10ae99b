"""The hub parquet layout: shards with a column of encoded pictures and a column of labels.

The files are SPLIT-00000-of-00002.parquet, SPLIT-00001-of-00002.parquet, ... (or SPLIT.parquet
alone), the columns `img` or `image`, a struct of `bytes` and `path`, and `label`, an integer. The
bytes may be PNG, JPEG or any other format that Pillow decodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dfx.data.layout import DataError, Layout, Pictures, existing, one_line
from dfx.data.pixels import decode

_IMAGE_COLUMNS = ("img", "image")
_MAGIC = b"PAR1"


def read(folder: Path, split: str, limit: int | None = None) -> Pictures:
    """Return the pictures and labels of a split, shards in order; all rows are read.

    Only the first `limit` pictures are decoded.

    Raises:
      DataError: a shard is missing or corrupt, a column is missing or has empty entries, or a
        picture cannot be decoded or has another size than the first.
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    for path in _shards(folder, split):
        for row, (data, label) in enumerate(_rows(path)):
            where = f"{path} row {row}"
            if data is None or label is None:
                raise DataError(f"{where}: empty {'picture' if data is None else 'label'}")
            labels.append(label)
            if limit is None or len(images) < limit:
                images.append(_decode_like(images[:1], data, where))
    if not images:
        raise DataError(f"{folder}: the parquet files of split {split!r} hold no rows")
    # All labels count here, so that the number of classes does not depend on the limit.
    return Pictures(np.stack(images), np.array(labels[: len(images)]), max(max(labels), 0) + 1)


def _decode_like(first: list[np.ndarray], data: bytes, where: str) -> np.ndarray:
    """The picture in `data`, which must have the shape of the first one, if there is one."""
    image = decode(data, where)
    if first and image.shape != first[0].shape:
        raise DataError(f"{where}: picture of shape {image.shape}, the first is {first[0].shape}")
    return image


def _shards(folder: Path, split: str) -> list[Path]:
    """The shard files in order; every number that the names promise must be there."""
    name = re.compile(rf"{split}-(\d+)-of-(\d+)(-\w+)?\.parquet")
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    found = [(match, path) for path in paths if (match := name.fullmatch(path.name))]
    if not found:
        return [existing(folder, (f"{split}.parquet", f"{split}-00000-of-00001.parquet"))]
    numbers, totals = [int(m[1]) for m, _ in found], {int(m[2]) for m, _ in found}
    if len(totals) != 1 or sorted(numbers) != list(range(min(totals))):
        raise DataError(
            f"{folder}: parquet shards of split {split!r} are not one whole set: "
            f"found {', '.join(p.name for _, p in found)}"
        )
    return [path for _, path in sorted(found, key=lambda pair: int(pair[0][1]))]


def _rows(path: Path) -> Iterator[tuple[bytes | None, int | None]]:
    """The (bytes, label) pairs of one shard; its columns and row count are checked first."""
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            # Arrow looks at the last four bytes alone.
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DataError(f"{path}: wrong magic number, a parquet file begins with PAR1")
            shard = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
            column = _image_column(path, shard.schema_arrow)
            # Row groups one by one, so that a large shard is never in memory twice.
            for group in range(shard.num_row_groups):
                table = shard.read_row_group(group, columns=[f"{column}.bytes", "label"])
                if table.num_rows != shard.metadata.row_group(group).num_rows:
                    raise DataError(f"{path}: row group {group} is torn")
                yield from zip(
                    (picture and picture["bytes"] for picture in table[column].to_pylist()),
                    table["label"].to_pylist(),
                )
    except DataError:
        raise
    except Exception as error:  # Arrow's own kinds, and what a corrupt footer makes of Python's
        raise DataError(f"{path}: corrupt parquet file ({one_line(error)})") from error


def _image_column(path: Path, schema) -> str:
    """The name of the picture column; it must hold encoded bytes, and `label` integers."""
    import pyarrow

    types = {field.name: field.type for field in schema}
    column = next((name for name in _IMAGE_COLUMNS if name in types), None)
    if column is None or "label" not in types:
        raise DataError(
            f"{path}: needs the columns 'label' and {' or '.join(map(repr, _IMAGE_COLUMNS))}, "
            f"has {', '.join(map(repr, types)) or 'none'}"
        )
    kind = types[column]
    if not pyarrow.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise DataError(f"{path}: column {column!r} must be a struct with 'bytes', is {kind}")
    if not pyarrow.types.is_integer(types["label"]):
        raise DataError(f"{path}: column 'label' must hold integers, holds {types['label']}")
    return column


LAYOUT = Layout(lambda split: (f"{split}-*-of-*.parquet", f"{split}.parquet"), read)

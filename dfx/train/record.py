"""The record beside a checkpoint's data: what was saved, by which run, each leaf's checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

FORMAT = 1

Record = dict[str, Any]


class Refused(Exception):
    """One checkpoint cannot be used; the message says why, without its name."""


def describe(state: Any, config_hash: str, step: int) -> tuple[Record, dict[str, jax.Array]]:
    """Return the record of a state, and its leaves under the names that they are stored by.

    The names are numbers, in the order of the pytree; typed keys are stored as their key data. A
    leaf of which other hosts alone hold a part has no checksum (None).
    """
    plain = jax.tree.map(_plain, state)
    described = [
        {**_describe(name, leaf), "key": _generator(leaf), "sha256": _checksum(stored)}
        for (name, leaf), stored in zip(_named(state), jax.tree.leaves(plain))
    ]
    record = {"format": FORMAT, "config_hash": config_hash, "step": step, "leaves": described}
    return record, _numbered(plain)


def check(record: Record, template: Any, config_hash: str, step: int) -> None:
    """Raise Refused if a record is not one of this format, config and step, or of other leaves."""
    if record["format"] != FORMAT:
        raise Refused(f"it has format {record['format']}, this version reads {FORMAT}")
    if record["config_hash"] != config_hash:
        raise Refused(
            f"it belongs to another config (hash {record['config_hash']}, here {config_hash})"
        )
    if record["step"] != step:
        raise Refused(f"it was saved as step {record['step']}")
    saved = {leaf["name"]: leaf for leaf in record["leaves"]}
    wanted = {name: _describe(name, leaf) for name, leaf in _named(template)}
    for name in [*wanted, *saved]:
        if name not in saved:
            raise Refused(f"it has no {name}")
        if name not in wanted:
            raise Refused(f"it has {name}, which is not in this state")
        for field, value in wanted[name].items():
            if saved[name][field] != value:
                raise Refused(f"{name} has {field} {saved[name][field]}, here {value}")


def read(folder: Path, record: Record, template: Any) -> Any:
    """Return the state that was saved, each leaf on the devices that the template's leaf lies on.

    The arrays are read by tensorstore, with which orbax writes them, and each process reads its own
    part alone. orbax's reader would print tracebacks from its threads when a file is damaged.

    Raises:
      Refused: a leaf cannot be read, or its checksum is not that of the record.
    """
    import tensorstore

    numbers = {leaf["name"]: number for number, leaf in enumerate(record["leaves"])}
    wanted = [(numbers[name], leaf) for name, leaf in _named(template)]
    opening = [tensorstore.open(_spec(folder, number), read=True) for number, _ in wanted]
    leaves = []
    for (number, leaf), future in zip(wanted, opening):
        saved = record["leaves"][number]
        try:
            array = _place(future.result(), leaf)
        except (ValueError, OSError) as error:
            kind = str(error).partition(":")[0]  # tensorstore's code, such as DATA_LOSS
            raise Refused(f"{saved['name']} cannot be read ({kind})") from error
        if saved["sha256"] is not None and _checksum(array) not in (None, saved["sha256"]):
            raise Refused(f"{saved['name']} differs from what was saved (sha256)")
        leaves.append(_typed(array, saved["key"]))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or raise Refused."""
    try:
        return json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise Refused(f"its {path.parent.name} cannot be read ({type(error).__name__})") from error


def seal(record: Record) -> dict[str, Any]:
    """Return the record with its own checksum, so that a flipped byte in it does not go unseen."""
    return {"record": record, "sha256": _text_checksum(record)}


def unseal(sealed: Any) -> Record:
    """Return the record, or raise Refused if it is not what was sealed."""
    try:
        record, checksum = sealed["record"], sealed["sha256"]
    except (TypeError, KeyError) as error:
        raise Refused("it is not a checkpoint of this library") from error
    if _text_checksum(record) != checksum:
        raise Refused("its record differs from what was saved (sha256)")
    return record


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Return the leaves with their paths, such as `params['dense']['kernel']`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]


def _numbered(tree: Any) -> dict[str, Any]:
    """Return the leaves under the names that they are stored by."""
    return {f"leaf_{number}": leaf for number, leaf in enumerate(jax.tree.leaves(tree))}


def _spec(folder: Path, number: int) -> dict[str, Any]:
    """Return where tensorstore finds a leaf in a folder of orbax's."""
    base = {"driver": "file", "path": f"{folder}/"}
    return {
        "driver": "zarr",
        "kvstore": {"driver": "ocdbt", "base": base, "path": f"leaf_{number}/"},
    }


def _place(store: Any, leaf: Any) -> jax.Array:
    """Return a stored array where the leaf of a template lies; an uncommitted one stays so."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None or not getattr(leaf, "committed", True):
        return jnp.asarray(store.read().result())
    return jax.make_array_from_callback(
        store.shape, sharding, lambda index: store[index].read().result()
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    """Return a leaf as an array of numbers: a typed key as its key data."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _typed(leaf: jax.Array, key: str | None) -> jax.Array:
    """Return a stored leaf as what it was: `key` names the key's generator, None for numbers."""
    return leaf if key is None else jax.random.wrap_key_data(leaf, impl=key)


def _describe(name: str, leaf: Any) -> dict[str, Any]:
    """Return what a leaf of a template and a leaf of a record must agree on."""
    return {"name": name, "shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _generator(leaf: Any) -> str | None:
    """Return the name of a typed key's generator, None for numbers."""
    return str(jax.random.key_impl(leaf)) if _is_key(leaf) else None


def _checksum(leaf: jax.Array) -> str | None:
    """Return the sha256 of a leaf's bytes in C order, None if other hosts alone hold part of it."""
    if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        return None
    return hashlib.sha256(np.ravel(leaf).view(np.uint8).data).hexdigest()


def _text_checksum(record: Any) -> str:
    """Return the sha256 of a record's JSON text, keys sorted."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

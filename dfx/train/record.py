"""The record beside a checkpoint's data: what was saved, by which run, each leaf's checksum."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

FORMAT = 1


class Refused(Exception):
    """One checkpoint cannot be used; the message says why, without its name."""


Record = dict[str, Any]


def describe(state: Any, config_hash: str, step: int) -> tuple[Record, dict[str, jax.Array]]:
    """Return the record of a state, and its leaves under the names that they are stored by.

    The names are numbers, in the order of the pytree; typed keys are stored as their key data. A
    leaf that lies partly on other hosts has no checksum (None).
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


def abstract(template: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Return what to read for a template: shapes, dtypes and the devices that its leaves lie
    on."""

    def one(leaf) -> jax.ShapeDtypeStruct:
        plain = jax.eval_shape(_plain, leaf)
        sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
        return jax.ShapeDtypeStruct(plain.shape, plain.dtype, sharding=sharding)

    return _numbered(jax.tree.map(one, template))


def rebuild(leaves: dict[str, jax.Array], record: Record, template: Any) -> Any:
    """Return the state that was saved, or raise Refused naming the leaf whose checksum is
    wrong."""
    ordered = [leaves[number] for number in sorted(leaves)]
    for leaf, saved in zip(ordered, record["leaves"], strict=True):
        if saved["sha256"] is not None and _checksum(leaf) != saved["sha256"]:
            raise Refused(f"{saved['name']} differs from what was saved (sha256)")
    typed = [_typed(leaf, saved["key"]) for leaf, saved in zip(ordered, record["leaves"])]
    return jax.tree.unflatten(jax.tree.structure(template), typed)


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


def one_line(error: Exception, width: int = 120) -> str:
    """Return the kind and the beginning of an error's message, in one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= width else f"{text[:width]}.."


def _named(tree: Any) -> list[tuple[str, Any]]:
    """Return the leaves with their paths, such as `params['dense']['kernel']`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path).lstrip("."), leaf) for path, leaf in leaves]


def _numbered(tree: Any) -> dict[str, Any]:
    """Return the leaves under names that sort in their order."""
    return {f"leaf_{i:06d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


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
    """Return the sha256 of a leaf's bytes in C order, or None if other hosts hold part of it."""
    if not leaf.is_fully_addressable:
        return None
    return hashlib.sha256(np.ascontiguousarray(leaf)).hexdigest()


def _text_checksum(record: Any) -> str:
    """Return the sha256 of a record's JSON text, keys sorted."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

"""Frozen dataclasses as pytrees.

`jax.tree_util.register_dataclass` is not used in dfx: in jax 0.10 and 0.11 it gives two classes
with as many fields equal tree structures, so that `jax.jit` now and then runs the program of one on
the other.
"""

from __future__ import annotations

import dataclasses

import jax


def pytree(cls):
    """Register a dataclass as a pytree whose structure holds the class, and return it.

    Its fields are the children. A field marked `dataclasses.field(metadata={"static": True})` is
    part of the structure instead: it must be hashable, and `jax.jit` compiles anew for each value.
    `__init__` does not run when JAX rebuilds a record, so children may be tracers or placeholders.

    >>> @pytree
    ... @dataclasses.dataclass(frozen=True)
    ... class Line:
    ...     slope: float
    >>> jax.tree.map(lambda number: 2 * number, Line(3.0))
    Line(slope=6.0)
    """
    static = [f.name for f in dataclasses.fields(cls) if f.metadata.get("static", False)]
    children = [f.name for f in dataclasses.fields(cls) if f.name not in static]

    def values(record, names):
        return tuple(getattr(record, name) for name in names)

    def flatten(record):
        return values(record, children), values(record, static)

    def flatten_with_keys(record):
        keys = map(jax.tree_util.GetAttrKey, children)
        return tuple(zip(keys, values(record, children))), values(record, static)

    def unflatten(static_values, child_values):
        record = object.__new__(cls)
        for name, value in zip([*children, *static], [*child_values, *static_values]):
            object.__setattr__(record, name, value)
        return record

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls

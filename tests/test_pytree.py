"""Dataclasses as pytrees."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from dfx.pytree import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Pair:
    first: Any
    second: Any = 2.0
    name: str = dataclasses.field(default="pair", metadata={"static": True})


def twin():
    @pytree
    @dataclasses.dataclass(frozen=True)
    class Twin:
        number: float

    return Twin


def test_flattening_and_rebuilding_is_the_identity():
    leaves, structure = jax.tree.flatten(Pair(1.0, {"a": 3.0}, "x"))
    assert leaves == [1.0, 3.0]
    assert jax.tree.unflatten(structure, leaves) == Pair(1.0, {"a": 3.0}, "x")


def test_children_have_their_names_as_keys():
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(Pair(1.0))]
    assert paths == [".first", ".second"]


def test_static_fields_are_structure():
    assert jax.tree.structure(Pair(1.0)) == jax.tree.structure(Pair(3.0, 4.0))
    assert jax.tree.structure(Pair(1.0, name="x")) != jax.tree.structure(Pair(1.0, name="y"))
    assert jax.jit(lambda pair: jnp.float32(len(pair.name)))(Pair(1.0, name="xyz")) == 3


def test_classes_with_the_same_fields_have_different_structures():
    assert jax.tree.structure(twin()(1.0)) != jax.tree.structure(twin()(1.0))


def test_jit_never_runs_the_program_of_another_class():
    # With equal structures the caches of jit confuse about one pair of classes in a hundred.
    classes = [twin() for _ in range(24)]
    tag = jax.jit(lambda record: classes.index(type(record)) + 0 * record.number)
    assert [int(tag(cls(1.0))) for cls in classes] == list(range(24))


def test_records_pass_through_grad_vmap_and_scan():
    gradient = jax.grad(lambda pair: pair.first * pair.second)(Pair(2.0, 5.0))
    assert gradient == Pair(5.0, 2.0)
    mapped = jax.vmap(lambda pair: pair.first + pair.second)(Pair(jnp.arange(3.0), jnp.ones(3)))
    assert mapped.tolist() == [1, 2, 3]
    end, _ = jax.lax.scan(
        lambda pair, x: (Pair(pair.first + x, 1.0), None), Pair(0.0, 1.0), jnp.ones(4)
    )
    assert end.first == 4


def test_init_does_not_run_when_a_record_is_rebuilt():
    @pytree
    @dataclasses.dataclass(frozen=True)
    class Positive:
        number: float

        def __post_init__(self):
            if self.number <= 0:
                raise ValueError

    assert jax.tree.map(lambda number: -number, Positive(1.0)).number == -1
    with pytest.raises(ValueError):
        Positive(-1.0)

"""Checkpoints: what was saved comes back to the bit, and nothing damaged is ever taken for it."""

import shutil
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_toys as toys

from dfx import train

OPTIMIZER = train.optimizer(1e-2, clip=1.0)
AVERAGE = train.ema.constant(0.9)
STEP = train.make_step(toys.loss, OPTIMIZER, AVERAGE)


def state_at(step):
    """A state with other numbers at each step."""
    state = toys.state(OPTIMIZER, AVERAGE, seed=step)
    return state._replace(step=jnp.int32(step))


@pytest.fixture
def lines():
    return []


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the checkpoints of steps 10 and 20."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = train.Checkpoints(folder, "hash-a")
    for step in (10, 20):
        checkpoints.save(step, state_at(step))
    checkpoints.wait()
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of these, to damage."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def opened(folder, lines, config_hash="hash-a"):
    return train.Checkpoints(folder, config_hash, warn=lines.append)


def test_newest_checkpoint_comes_back_to_the_bit(saved, lines):
    found = opened(saved, lines).restore(state_at(0))
    toys.assert_same_bits(found, state_at(20))
    assert jnp.issubdtype(found.key.dtype, jax.dtypes.prng_key)
    assert lines == []


def test_template_may_be_shapes_alone(saved, lines):
    template = jax.eval_shape(lambda: state_at(0))
    toys.assert_same_bits(opened(saved, lines).restore(template), state_at(20))


def test_leaves_of_every_kind_come_back(tmp_path, lines):
    tree = {
        "half": jnp.array([[1.0, 2.5]], jnp.bfloat16),
        "flags": jnp.array([True, False]),
        "key": jax.random.split(jax.random.key(1, impl="rbg"), 2),
        "transposed": jnp.arange(6.0).reshape(2, 3).T,
    }
    checkpoints = opened(tmp_path, lines)
    checkpoints.save(1, tree)
    found = checkpoints.restore(jax.tree.map(jnp.zeros_like, tree))
    toys.assert_same_bits(found, tree)
    assert jax.random.key_impl(found["key"]) == jax.random.key_impl(tree["key"]) and lines == []


def test_folder_without_checkpoints_gives_none_and_is_not_made(tmp_path, lines):
    checkpoints = opened(tmp_path / "none", lines)
    assert checkpoints.restore(state_at(0)) is None
    assert checkpoints.latest() is None
    assert lines == [] and not (tmp_path / "none").exists()


def test_only_the_newest_are_kept(tmp_path, lines):
    checkpoints = train.Checkpoints(tmp_path, "hash-a", keep=2, warn=lines.append)
    for step in (10, 20, 30):
        checkpoints.save(step, state_at(step))
    assert checkpoints.steps() == [20, 30]
    assert checkpoints.latest() == 30


def test_state_may_be_donated_as_soon_as_save_returns(tmp_path, lines):
    double = jax.jit(lambda tree: jax.tree.map(lambda x: 2.0 * x, tree), donate_argnums=0)
    checkpoints, tree = opened(tmp_path, lines), {"w": jnp.ones((64, 1024))}
    for step in range(1, 6):
        checkpoints.save(step, tree)
        tree = double(double(tree))
        found = checkpoints.restore(jax.eval_shape(lambda tree=tree: tree))
        assert lines == [] and np.all(found["w"] == 4.0 ** (step - 1))


def flip(share):
    """The damage that flips one bit of the byte at a share of a file's length."""

    def damage(path):
        blob = bytearray(path.read_bytes())
        if blob:
            blob[int(share * len(blob))] ^= 0x10
            path.write_bytes(blob)

    return damage


FILE_DAMAGES = (flip(0.0), flip(0.5), flip(0.9), lambda path: path.unlink())


def test_damage_to_any_file_is_harmless_or_refused(tmp_path, lines):
    """Weights of 64 KiB, so that orbax keeps them in files of their own."""

    def tree(seed):
        key = jax.random.key(seed)
        return {"w": jax.random.normal(key, (4, 64, 64), jnp.float32), "key": key}

    whole = tmp_path / "whole"
    checkpoints = opened(whole, lines)
    checkpoints.save(1, tree(1))
    checkpoints.save(2, tree(2))
    checkpoints.wait()
    files = [path.relative_to(whole) for path in (whole / "2").rglob("*") if path.is_file()]
    refused = set()
    for number, (name, damage) in enumerate((n, d) for n in files for d in FILE_DAMAGES):
        folder = shutil.copytree(whole, tmp_path / str(number))
        damage(folder / name)
        lines.clear()
        found = opened(folder, lines).restore(tree(0))
        toys.assert_same_bits(found, tree(1 if lines else 2))
        if lines:
            assert len(lines) == 1 and lines[0].startswith("checkpoint 2 refused: ")
            assert "\n" not in lines[0] and len(lines[0]) < 250
            refused.add((name, damage))
    weights = max(files, key=lambda name: (whole / name).stat().st_size)
    record = Path("2/record/metadata")
    assert {(name, d) for name in (weights, record) for d in FILE_DAMAGES} <= refused


def test_numbers_that_differ_from_what_was_saved_are_refused_by_leaf(folder, lines):
    """The data of step 10 in the place of step 20's: all of it readable, none of it right."""
    shutil.rmtree(folder / "20" / "state")
    shutil.copytree(folder / "10" / "state", folder / "20" / "state")
    toys.assert_same_bits(opened(folder, lines).restore(state_at(0)), state_at(10))
    assert "checkpoint 20 refused: params['w'] differs from what was saved" in lines[0]


def biggest(folder):
    return max(folder.rglob("*"), key=lambda path: path.stat().st_size * path.is_file())


DAMAGES = {
    "truncated data": lambda new: biggest(new / "state" / "d").write_bytes(b"torn"),
    "no data": lambda new: shutil.rmtree(new / "state"),
    "no record": lambda new: shutil.rmtree(new / "record"),
    "empty record": lambda new: (new / "record" / "metadata").write_text(""),
    "other record": lambda new: (new / "record" / "metadata").write_text('{"a": 1}'),
    "no manifest": lambda new: (new / "state" / "manifest.ocdbt").unlink(),
    "empty folder": lambda new: (shutil.rmtree(new), new.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(folder, lines, damage):
    damage(folder / "20")
    toys.assert_same_bits(opened(folder, lines).restore(state_at(0)), state_at(10))
    assert len(lines) == 1 and lines[0].startswith("checkpoint 20 refused: ")


def test_half_written_checkpoint_is_named_and_not_used(folder, lines):
    (folder / "20").rename(folder / "20.orbax-checkpoint-tmp")
    toys.assert_same_bits(opened(folder, lines).restore(state_at(0)), state_at(10))
    assert lines == [f"checkpoint 20 refused: half-written (in {folder})"]
    checkpoints = opened(folder, lines)
    checkpoints.save(15, state_at(15))
    checkpoints.wait()
    assert not list(folder.glob("*tmp*"))


@pytest.mark.parametrize("damage", ["no record", "no data", "empty folder"])
def test_run_goes_on_saving_after_it_fell_back(folder, lines, damage):
    """The damaged step is in the way of the next saves, lower ones and the same one."""
    DAMAGES[damage](folder / "20")
    checkpoints = opened(folder, lines)
    checkpoints.restore(state_at(0))
    for step in (15, 20):
        checkpoints.save(step, state_at(step))
    assert checkpoints.steps() == [10, 15, 20]
    assert (folder / "refused-20").is_dir() and "set aside" in lines[-1]
    lines.clear()
    toys.assert_same_bits(opened(folder, lines).restore(state_at(0)), state_at(20))
    assert lines == []


def test_all_damaged_is_an_error_and_never_a_fresh_start(folder, lines):
    for step in ("10", "20"):
        DAMAGES["no record"](folder / step)
    with pytest.raises(train.CheckpointError, match="no usable checkpoint") as raised:
        opened(folder, lines).restore(state_at(0))
    assert "checkpoint 10 refused" in str(raised.value)
    assert "checkpoint 20 refused" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_checkpoint_of_another_config_is_refused(saved, lines):
    with pytest.raises(train.CheckpointError, match=r"another config \(hash hash-a, here hash-b"):
        opened(saved, lines, "hash-b").restore(state_at(0))


def test_checkpoint_of_other_shapes_is_refused_with_both(saved, lines):
    wide = state_at(0)._replace(params={"w": jnp.zeros(5), "b": jnp.zeros(())})
    with pytest.raises(train.CheckpointError, match=r"params\['w'\] has shape \[3\], here \[5\]"):
        opened(saved, lines).restore(wide)


def test_checkpoint_of_other_leaves_is_refused(saved, lines):
    template = state_at(0)
    with pytest.raises(train.CheckpointError, match=r"it has ema\['b'\], which is not"):
        opened(saved, lines).restore(template._replace(ema=()))
    more = template._replace(params=template.params | {"c": jnp.zeros(())})
    with pytest.raises(train.CheckpointError, match=r"it has no params\['c'\]"):
        opened(saved, lines).restore(more)
    other = template._replace(step=jnp.float32(0))
    with pytest.raises(train.CheckpointError, match="step has dtype int32, here float32"):
        opened(saved, lines).restore(other)


def test_warnings_are_the_default_way_to_say_it(folder):
    DAMAGES["no data"](folder / "20")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train.Checkpoints(folder, "hash-a").restore(state_at(0))
    assert any("checkpoint 20 refused" in str(w.message) for w in caught)


def test_keep_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep 0"):
        train.Checkpoints(tmp_path, "hash-a", keep=0)


def test_fit_with_checkpoints_cut_and_resumed_is_uninterrupted_to_the_bit(tmp_path, lines):
    """The run is cut after its second chunk, before the second save."""

    class Cut(Exception):
        pass

    def cut(state, metrics, done):
        if done == 20:
            raise Cut

    def fit(state, on_chunk=None, checkpoints=None):
        data = toys.regression()
        return train.fit(
            STEP, state, toys.batch_fn, 35, 10, on_chunk, data=data, checkpoints=checkpoints
        )

    start = toys.state(OPTIMIZER, AVERAGE)
    whole = fit(start)
    with pytest.raises(Cut):
        fit(start, cut, opened(tmp_path, lines))
    again = opened(tmp_path, lines)
    restored = again.restore(start)
    assert int(restored.step) == 10
    toys.assert_same_bits(fit(restored, None, again), whole)
    assert again.latest() == 35 and lines == []


def test_save_blocks_for_less_than_the_run_would_notice(tmp_path, lines):
    """An ensemble of 8 nets of 67,000 parameters; the bound is loose, to hold on a busy machine."""
    state = {name: jnp.ones((8, 67_000)) for name in ("params", "mean", "square", "average")}
    checkpoints = opened(tmp_path, lines)
    checkpoints.save(1, state)
    checkpoints.wait()
    begin = time.perf_counter()
    checkpoints.save(2, state)
    assert time.perf_counter() - begin < 5.0
    checkpoints.wait()

"""Files on disk are whole or refused, whatever was torn off or flipped."""

import contextlib
import json
import random

import numpy as np
import pytest

from dfx.runs import arrays, files, metrics

ARRAYS = {
    "x": np.arange(12.0).reshape(3, 4),
    "label": np.array(["a", "bc"]),
    "count": np.int64(3),
    "none": np.zeros((0, 2), np.float32),
    "complex": np.array([1 + 2j]),
    "flag": np.array([True, False]),
}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == np.asarray(b[name]).dtype
        np.testing.assert_array_equal(a[name], b[name])


def test_arrays_come_back_with_type_shape_and_bits(tmp_path):
    arrays.save(tmp_path / "a.npz", ARRAYS)
    assert_same(arrays.load(tmp_path / "a.npz"), ARRAYS)


def test_the_file_is_an_ordinary_npz(tmp_path):
    arrays.save(tmp_path / "a.npz", ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as kept:
        assert_same(dict(kept), ARRAYS)


def test_equal_arrays_give_equal_bytes_in_any_order(tmp_path):
    arrays.save(tmp_path / "a.npz", ARRAYS)
    arrays.save(tmp_path / "b.npz", dict(reversed(ARRAYS.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    arrays.save(tmp_path / "c.npz", ARRAYS | {"count": np.int64(4)})
    assert (tmp_path / "a.npz").read_bytes() != (tmp_path / "c.npz").read_bytes()


def test_a_torn_or_flipped_npz_is_never_taken_for_a_whole_one(tmp_path):
    path = tmp_path / "a.npz"
    arrays.save(path, ARRAYS)
    whole = path.read_bytes()
    rng = random.Random(0)
    damaged = [whole[: rng.randrange(len(whole))] for _ in range(60)]
    damaged += [b"", whole + b"\0", whole[1:], whole[:-1], whole[:-64], whole[-64:]]
    for _ in range(200):
        place = rng.randrange(len(whole))
        flipped = whole[place] ^ (1 << rng.randrange(8))
        damaged.append(whole[:place] + bytes([flipped]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(arrays.Damaged, match=r"a\.npz is torn or damaged"):
            arrays.load(path)


def test_an_npz_of_another_writer_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(arrays.Damaged):
        arrays.load(tmp_path / "a.npz")


@pytest.mark.parametrize("bad", [np.array([None]), np.array([{}], object)])
def test_no_object_is_pickled(tmp_path, bad):
    with pytest.raises(TypeError, match="array 'x' has type object"):
        arrays.save(tmp_path / "a.npz", {"x": bad})
    assert list(tmp_path.iterdir()) == []


def test_what_npz_would_forget_is_refused(tmp_path):
    import ml_dtypes

    with pytest.raises(TypeError, match="bfloat16"):
        arrays.save(tmp_path / "a.npz", {"x": np.ones(3, ml_dtypes.bfloat16)})


def test_jax_arrays_are_kept_as_numpy(tmp_path):
    import jax.numpy as jnp

    arrays.save(tmp_path / "a.npz", {"x": jnp.arange(3, dtype=jnp.float32)})
    assert_same(arrays.load(tmp_path / "a.npz"), {"x": np.arange(3, dtype=np.float32)})


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path):
    for value in (1, 2):
        files.write_json(tmp_path / "sub" / "a.json", value)
    assert files.read_json(tmp_path / "sub" / "a.json") == 2
    assert len(list((tmp_path / "sub").iterdir())) == 1


def test_an_error_in_the_middle_leaves_the_old_file_and_no_other(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": 1})
    with contextlib.suppress(RuntimeError), files.atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(TypeError):
        arrays.save(tmp_path / "a.json", {"x": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert files.read_json(tmp_path / "a.json") == {"x": 1}


def test_what_a_killed_writer_left_is_swept(tmp_path):
    (tmp_path / ".a.npz.123.tmp").write_text("half")
    (tmp_path / "b.npz").write_text("whole")
    files.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["b.npz"]


def test_numbers_that_are_not_finite_go_through_strict_json():
    text = files.dumps({"a": float("nan"), "b": (np.float32("inf"), -np.inf), "c": np.arange(2)})
    back = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert back["c"] == [0, 1]
    assert np.isnan(float(back["a"]))
    assert [float(v) for v in back["b"]] == [np.inf, -np.inf]


def test_a_sealed_file_is_what_was_written_to_the_last_bit(tmp_path):
    path, entries = tmp_path / "a.json", {"a": [1, 2.5, "x"], "b": {"c": float("nan")}}
    files.write_sealed(path, entries)
    found = files.read_sealed(path)
    assert found["a"] == entries["a"] and list(found) == ["a", "b"]
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert files.read_sealed(path) == found  # white space, at most
        except ValueError:
            continue
    for data in (b"", b"{}", b"[]", b"3", b'{"sha256": null}', b"[" * 99_999):
        path.write_bytes(data)
        with pytest.raises(ValueError):
            files.read_sealed(path)


def logged(path, rows):
    for stage, step, values in rows:
        metrics.append(path, stage, step, values)


def test_metrics_come_back_as_columns_sorted_by_step(tmp_path):
    path = tmp_path / "m.jsonl"
    rows = [("a", s, {"loss": s / 3, "seeds": np.arange(2) * s}) for s in (4, 2, 10)]
    logged(path, [*rows, ("b", 1, {"loss": 7.0})])
    columns = metrics.read(path, "a")
    np.testing.assert_array_equal(columns["step"], [2, 4, 10])
    np.testing.assert_array_equal(columns["loss"], np.array([2, 4, 10]) / 3)
    np.testing.assert_array_equal(columns["seeds"], [[0, 2], [0, 4], [0, 10]])
    assert columns["step"].dtype == np.int64 and columns["loss"].dtype == np.float64
    assert metrics.stages(path) == ["a", "b"]


def test_a_step_logged_again_counts_once_as_last_logged(tmp_path):
    path = tmp_path / "m.jsonl"
    logged(path, [("a", 1, {"x": 1}), ("a", 2, {"x": 2}), ("b", 1, {"x": 9}), ("a", 1, {"x": 3})])
    np.testing.assert_array_equal(metrics.read(path, "a")["x"], [3, 2])


def test_a_missing_value_is_nan_and_nan_comes_back(tmp_path):
    path = tmp_path / "m.jsonl"
    logged(path, [("a", 1, {"x": np.nan}), ("a", 2, {"y": (1, 2)}), ("a", 3, {"x": np.inf})])
    columns = metrics.read(path, "a")
    np.testing.assert_array_equal(columns["x"], [np.nan, np.nan, np.inf])
    np.testing.assert_array_equal(columns["y"], [[np.nan] * 2, [1, 2], [np.nan] * 2])


def test_no_metrics_are_empty_columns(tmp_path):
    assert metrics.read(tmp_path / "m.jsonl", "a")["step"].shape == (0,)


def test_metrics_torn_at_any_byte_keep_every_whole_row(tmp_path, capsys):
    path = tmp_path / "m.jsonl"
    logged(path, [("a", step, {"x": step**2}) for step in range(5)])
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        rows = whole[:length].count(b"\n")
        assert len(metrics.read(path, "a")["step"]) == rows
        metrics.repair(path)
        metrics.append(path, "a", 9, {"x": 1})
        assert metrics.read(path, "a")["step"].tolist() == [*range(rows), 9]
    assert capsys.readouterr().err == ""


def test_a_damaged_row_is_named_and_left_out(tmp_path, capsys):
    path = tmp_path / "m.jsonl"
    logged(path, [("a", step, {"x": step}) for step in range(20)])
    lines = path.read_bytes().split(b"\n")
    other = [lines[7].replace(b"7", b"3"), lines[7].replace(b'"x"', b'"y"'), lines[7] + b" "]
    for bad in (b"", b"{", b"3", b"[]", b'{"step": 1}', b"[" * 99_999, *other):
        path.write_bytes(b"\n".join([*lines[:7], bad, *lines[8:]]))
        assert metrics.read(path, "a")["step"].tolist() == [*range(7), *range(8, 20)]
        assert "line 8 of" in capsys.readouterr().err

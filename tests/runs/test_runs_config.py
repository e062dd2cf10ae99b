"""Configs: loaded, checked and frozen; a config has one name, and JSON gives it back."""

import json
import random
import string

import numpy as np
import pytest

from dfx.errors import PersonError
from dfx.runs import ConfigError, checks, config_hash, describe, load, unchanged
from dfx.runs.config import first_difference, from_plain, to_plain
from dfx.runs.files import dumps

FILE = '''"""A study of nothing.

More words.
"""
from ml_collections import ConfigDict
from dfx.runs import checks

SIZES = ("smoke", "default")

def get_config(size="default"):
    steps = {"smoke": 3, "default": 30}[size]
    return ConfigDict({"seed": 0, "train": {"steps": steps, "rate": 0.1}})

def validate(config):
    checks.positive("config.train.steps", config.train.steps)
'''


def random_value(rng, depth=0):
    kinds = [bool, int, float, str, type(None), tuple, *([dict] if depth < 3 else [])]
    match rng.choice(kinds).__name__:
        case "bool":
            return rng.random() < 0.5
        case "int":
            return rng.randrange(-(10**20), 10**20)
        case "float":
            return float(np.float64(rng.gauss(0, 1) * 10.0 ** rng.randrange(-300, 300)))
        case "str":
            return "".join(rng.choice(string.printable + "é\udc80") for _ in range(5))
        case "tuple":
            return tuple(rng.choice([1, 2.0, "a", None, (1, 2)]) for _ in range(rng.randrange(4)))
        case "dict":
            return {f"k{i}": random_value(rng, depth + 1) for i in range(rng.randrange(5))}
    return None


def shuffled(value, rng):
    if not isinstance(value, dict):
        return value
    keys = list(value)
    rng.shuffle(keys)
    return {key: shuffled(value[key], rng) for key in keys}


def test_json_gives_back_the_very_config():
    rng = random.Random(1)
    for _ in range(300):
        value = {"a": random_value(rng), "b": {"c": random_value(rng)}}
        back = from_plain(json.loads(dumps(to_plain(value))))
        assert to_plain(back) == to_plain(value)
        assert config_hash(back) == config_hash(value) == config_hash(from_plain(value))


def test_the_hash_is_stable_under_key_order():
    rng = random.Random(2)
    for _ in range(100):
        value = {"a": random_value(rng), "b": {"c": random_value(rng), "d": random_value(rng)}}
        assert config_hash(shuffled(value, rng)) == config_hash(value)


def test_the_hash_sees_every_setting_and_its_type():
    base = {"a": 1, "b": {"c": (1, 2), "d": "x", "e": None, "f": True, "g": 0.1}}
    others = [
        {"a": 1.0, "b": base["b"]},
        {"a": True, "b": base["b"]},
        *({"a": 1, "b": base["b"] | new} for new in (
            {"c": (2, 1)}, {"c": (1.0, 2)}, {"c": (1, 2, 2)}, {"d": "y"}, {"e": 0}, {"f": False},
            {"g": float(np.nextafter(0.1, 1.0))}, {"h": None},
        )),
    ]  # fmt: skip
    hashes = {config_hash(value) for value in [base, *others]}
    assert len(hashes) == 1 + len(others)


def test_the_hash_is_the_sha256_of_sorted_json():
    # Written out by hand: the name of a config must not change with the library's version.
    import hashlib

    text = '{"a":1,"b":{"c":[1.5,null],"d":"\\u00e9"}}'
    assert config_hash({"b": {"d": "é", "c": (1.5, None)}, "a": 1}) == (
        hashlib.sha256(text.encode()).hexdigest()
    )


def test_where_data_lie_is_no_part_of_the_name():
    old = {"path": "a", "data": {"name": "mnist", "path": "a"}}
    new = {"path": "a", "data": {"name": "mnist", "path": "b"}}
    assert config_hash(old) == config_hash(new) and first_difference(old, new) is None
    assert old["data"]["path"] == "a"
    assert first_difference(old, old | {"path": "b"}) == ("config.path", '"a"', '"b"')


def test_what_is_read_becomes_a_setting(file):
    text = file.read_text().replace('"seed": 0', '"seed": 0, "data": {"path": "a"}')
    file.write_text(f"{text}\ndef fingerprint(config):\n    return 'set in ' + config.data.path\n")
    assert load(file, overrides=[("data.path", "b")]).data.fingerprint == "set in b"
    assert "fingerprint" not in unchanged(file).data
    with pytest.raises(ConfigError, match="unknown setting"):
        load(file, overrides=[("data.fingerprint", "x")])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", np.float32(1.0)])
def test_what_json_cannot_keep_is_no_setting(value):
    with pytest.raises(ConfigError, match=r"config\.a\.b is"):
        to_plain({"a": {"b": value}})


def test_the_first_difference_names_setting_and_both_values():
    old = {"a": 1, "b": {"c": (1, 2), "d": "x"}}
    assert first_difference(old, {"b": {"d": "x", "c": (1, 2)}, "a": 1}) is None
    assert first_difference(old, {"a": 1, "b": {"c": (1, 3), "d": "x"}}) == (
        "config.b.c", "[1, 2]", "[1, 3]",
    )  # fmt: skip
    assert first_difference(old, {"a": 1, "b": {"c": (1, 2)}}) == (
        "config.b.d", '"x"', "not there",
    )  # fmt: skip
    assert first_difference(old, old | {"e": {}}) == ("config.e", "not there", "{}")
    assert first_difference({"a": 1}, {"a": 1.0}) == ("config.a", "1", "1.0")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nothing.py"
    path.write_text(FILE)
    return path


def test_a_config_is_loaded_overridden_checked_and_frozen(file):
    config = load(file, "smoke", [("train.steps", "5"), ("train.steps", "6")])
    assert (config.train.steps, config.train.rate) == (6, 0.1)
    assert load(file).train.steps == 30
    with pytest.raises(AttributeError):
        config.seed = 1


def test_validate_sees_the_overrides(file):
    with pytest.raises(ConfigError, match=r"config.train.steps: given -1, allowed: a number above"):
        load(file, "smoke", [("train.steps", "-1")])


def test_a_config_that_cannot_run_here_can_still_be_looked_at(file):
    """The base of a config with changes, say, whose data are elsewhere."""
    file.write_text(FILE.replace('"default": 30', '"default": -30'))
    with pytest.raises(ConfigError, match="given -30"):
        load(file)
    assert unchanged(file).train.steps == -30
    with pytest.raises(ConfigError, match="did you mean 'smoke'"):
        unchanged(file, "smkoe")


def test_an_unknown_size_names_the_nearest(file):
    with pytest.raises(ConfigError, match=r"size of nothing 'smkoe': did you mean 'smoke'\?"):
        load(file, "smkoe")


def test_a_missing_or_empty_config_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no config file .*absent\.py"):
        load(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="has no get_config"):
        load(tmp_path / "empty.py")


def test_a_config_file_is_described_without_being_run(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text(FILE + "\nraise SystemExit\n")
    assert describe(path) == ("A study of nothing.", ("smoke", "default"))
    path.write_text("SIZES = tuple(x for x in 'ab')\n")
    assert describe(path) == ("", ("default",))


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (lambda v: checks.positive("config.x", v), [1, 0.1, (1, 2)], [0, -1, None, (1, 0)]),
        (lambda v: checks.not_negative("config.x", v), [0, 0.0, 3], [-1, (0, -1), None]),
        (lambda v: checks.in_range("config.x", v, 0, 1), [0, 1, 0.5, ()], [-0.1, 1.1, (0.5, 2)]),
        (lambda v: checks.not_empty("config.x", v), [(1,), "a"], [(), ""]),
        (lambda v: checks.one_of("config.x", v, ("ab", "cd")), ["ab", ("ab",)], ["ac", ("e",)]),
        (lambda v: checks.one_of("config.x", v, (1, 2)), [1, (2, 1)], [3, "1"]),
    ],
)
def test_checks_take_what_is_allowed_and_refuse_the_rest(check, good, bad):
    for value in good:
        check(value)
    for value in bad:
        with pytest.raises(ConfigError, match=r"setting config\.x: "):
            check(value)
    assert issubclass(ConfigError, PersonError)


def test_a_wrong_choice_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'ddmi': did you mean 'ddim'\? allowed: ddim, heun"):
        checks.one_of("config.solver", "ddmi", ("heun", "ddim"))

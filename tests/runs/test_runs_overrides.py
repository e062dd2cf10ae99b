"""Overrides: text from the command line becomes a value of the default's type, or one line."""

import json
import random
import string

import pytest
from ml_collections import ConfigDict, config_dict

from dfx.runs import ConfigError
from dfx.runs.config import from_plain, to_plain
from dfx.runs.files import dumps
from dfx.runs.overrides import override


def settings():
    config = ConfigDict(
        {
            "seed": 0,
            "name": "ddim",
            "train": {"steps": 100, "rate": 1e-3, "ema": True},
            "modes": (1.0, 2.0),
            "sizes": (1, 2),
            "mixed": (1, 2.5),
            "pair": ("adam", 3),
            "sets": ((1, 2), (3,)),
            "free": (),
            "words": ("a", "b"),
            "path": config_dict.placeholder(str),
            "limit": config_dict.placeholder(float),
        }
    )
    config.double = config.get_ref("seed") * 2
    return config


def changed(setting, text):
    config = settings()
    override(config, setting, text)
    *groups, name = setting.split(".")
    for group in groups:
        config = config[group]
    return config[name]


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("seed", "7", 7),
        ("seed", "-7", -7),
        ("train.steps", "1e3", 1000),
        ("train.steps", "20_000", 20_000),
        ("train.rate", "3", 3.0),
        ("train.rate", "-1e-4", -1e-4),
        ("train.ema", "false", False),
        ("train.ema", "True", True),
        ("name", "1", "1"),
        ("name", "", ""),
        ("name", "none", "none"),
        ("modes", "1,2.5,3", (1.0, 2.5, 3.0)),
        ("modes", "(1, 2)", (1.0, 2.0)),
        ("modes", "[4]", (4.0,)),
        ("modes", "4,", (4.0,)),
        ("modes", "()", ()),
        ("sizes", "3,4,5", (3, 4, 5)),
        ("mixed", "1,2", (1.0, 2.0)),
        ("pair", "sgd,4", ("sgd", 4)),
        ("words", "x", ("x",)),
        ("words", "('x', \"y\")", ("x", "y")),
        ("sets", "(1,2),(3,4),(5,)", ((1, 2), (3, 4), (5,))),
        ("sets", "((1,2),)", ((1, 2),)),
        ("free", "1,2.5,x", (1, 2.5, "x")),
        ("path", "a/b", "a/b"),
        ("path", "none", None),
        ("limit", "2", 2.0),
        ("limit", "None", None),
    ],
)
def test_text_becomes_a_value_of_the_defaults_type(setting, text, value):
    got = changed(setting, text)
    assert got == value
    assert type(got) is type(value)
    if isinstance(value, tuple):
        assert [type(entry) for entry in got] == [type(entry) for entry in value]


@pytest.mark.parametrize(
    ("setting", "text", "allowed"),
    [
        ("seed", "1.5", "a whole number"),
        ("seed", "abc", "a whole number"),
        ("seed", "1e400", "a whole number"),
        ("seed", "", "a whole number"),
        ("seed", "true", "a whole number"),
        ("train.rate", "fast", "a finite number"),
        ("train.rate", "nan", "a finite number"),
        ("train.rate", "1e999", "a finite number"),
        ("train.ema", "1", "true or false"),
        ("train.ema", "yes", "true or false"),
        ("sizes", "1,2.5", "a whole number"),
        ("modes", "1,,2", "a finite number"),
        ("modes", "(1,2", "each bracket closed"),
        ("modes", "1)2(", "each bracket closed"),
        ("pair", "sgd", "2 entries"),
        ("limit", "soon", "a finite number"),
    ],
)
def test_a_wrong_type_is_one_line_with_setting_given_and_allowed(setting, text, allowed):
    with pytest.raises(ConfigError) as error:
        changed(setting, text)
    line = str(error.value)
    assert "\n" not in line
    assert f"config.{setting}" in line
    assert allowed in line


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("train.stpes", "config.train.steps"),
        ("trian.steps", "config.train.steps"),
        ("steps", "config.train.steps"),
        ("train.ratee", "config.train.rate"),
        ("mode", "config.modes"),
        ("seed.x", "config.seed"),
    ],
)
def test_an_unknown_setting_names_the_nearest(setting, nearest):
    with pytest.raises(ConfigError, match="unknown setting") as error:
        changed(setting, "1")
    assert f"did you mean {nearest!r}?" in str(error.value)


def test_a_far_off_setting_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"unknown setting 'config.train.zzzzzzz'. settings of"):
        changed("train.zzzzzzz", "1")


def test_a_group_cannot_be_set():
    with pytest.raises(ConfigError, match=r"config.train is a group .*config.train.rate"):
        changed("train", "3")


def test_an_override_of_a_reference_reaches_what_depends_on_it():
    config = settings()
    override(config, "seed", "5")
    assert config.double == 10


def test_random_overrides_raise_config_errors_only():
    # Valid words, near misses and noise; any other error would be a traceback for the person.
    rng = random.Random(0)
    every = ["seed", "name", "train.steps", "train.rate", "train.ema", "train", "modes", "sizes"]
    every += ["mixed", "pair", "sets", "free", "path", "limit", "double", "", ".", "train."]
    letters = string.printable + "é٣\udc80()[],,.."
    for _ in range(1000):
        setting = rng.choice(every)
        if rng.random() < 0.3:
            setting = "".join(rng.choice(letters) for _ in range(rng.randrange(12)))
        text = "".join(rng.choice(letters) for _ in range(rng.randrange(8)))
        if rng.random() < 0.3:
            text = rng.choice(["1", "1e3", "-2.5", "true", "1,2", "((1,2),(3))", "inf", "9" * 5000])
        config = settings()
        line = ""
        try:
            override(config, setting, text)
        except ConfigError as error:
            line = str(error)
        assert "\n" not in line
        if not line:
            back = from_plain(json.loads(dumps(to_plain(config))))
            assert back == from_plain(config)

"""Checks of many settings at once: which are looked at, and what is said."""

import pytest

from dfx.runs import ConfigError, checks

CONFIG = {
    "seed": 0,
    "num_seeds": 3,
    "kind": "mlp",
    "parts": ("nets",),
    "more": (),
    "law": {"mean": -1.0, "pad": 0, "levels": (0.1, 0.5), "name": "grid"},
    "net": {"width": 0, "flip": False},
}


def changed(name, value):
    """The config with one setting changed, by its name."""
    group, _, last = name.rpartition(".")
    inner = (CONFIG[group] if group else CONFIG) | {last: value}
    return CONFIG | {group: inner} if group else inner


def check(config):
    checks.choices(config, {"kind": ("mlp", "dit"), "parts": ("nets", "laws")})
    checks.signs(config, zero=("law.pad",), free=("law.mean", "net"), may_be_empty=("more",))
    checks.ranges(config, {"law.levels": (0.1, 10.0), "law.mean": (-2, 2)})
    checks.seeds(config, "num_seeds")
    checks.rising(config, "law.levels")


def test_a_config_in_order_passes():
    assert check(CONFIG) is None
    assert check(changed("net.width", -3)) is None  # the whole group is free
    assert checks.choices(changed("parts", ()), {"parts": ("nets",)}, ("parts",)) is None
    assert checks.rising({"steps": ()}, "steps", least=0) is None
    assert check(changed("seed", 0)) is check(changed("seed", checks.LARGEST_SEED)) is None
    with pytest.raises(ConfigError, match="allowed: rising numbers"):
        checks.rising({"steps": ()}, "steps")


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("kind", "mpl", "config.kind: unknown value 'mpl': did you mean 'mlp'? allowed: dit, mlp"),
        ("parts", ("nets", "law"), "config.parts: unknown value 'law': did you mean 'laws'?"),
        ("parts", (), "config.parts: given (), allowed: at least one entry"),
        ("seed", -1, "config.seed: given -1, allowed: a number from 0 to 2147482648"),
        ("law.pad", 10**13, "law.pad: given 10000000000000, allowed: a number of at most 1e+12"),
        ("seed", 2**32, "config.seed: given 4294967296, allowed: a number from 0 to 2147482648"),
        ("num_seeds", 0, "config.num_seeds: given 0, allowed: a number above 0"),
        ("num_seeds", 1, "config.num_seeds: given 1, allowed: a number from 2 to 10000"),
        ("law.pad", -1, "config.law.pad: given -1, allowed: a number that is 0 or above"),
        ("law.levels", (0.1, -1.0), "given (0.1, -1.0), allowed: a number above 0"),
        ("law.levels", (0.1, 11.0), "given (0.1, 11.0), allowed: a number from 0.1 to 10.0"),
        ("law.levels", (0.5, 0.5), "config.law.levels: given (0.5, 0.5), allowed: rising numbers"),
        ("law.levels", (), "config.law.levels: given (), allowed: at least one entry"),
        ("law.levels", (0.1, "a"), "given (0.1, 'a'), allowed: a number above 0"),
        ("law.mean", "a", "config.law.mean: given 'a', allowed: a number from -2 to 2"),
        ("law.mean", -1e300, "law.mean: given -1e+300, allowed: a number of at most 1e+12"),
        (
            "net.width",
            10**20,
            "net.width: given 100000000000000000000, allowed: a number of at most",
        ),
        ("law.mean", -3, "config.law.mean: given -3, allowed: a number from -2 to 2"),
    ],
)
def test_the_setting_that_cannot_be_is_named_with_what_is_allowed(name, value, line):
    with pytest.raises(ConfigError) as error:
        check(changed(name, value))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_names_that_only_begin_alike_are_no_group():
    with pytest.raises(ConfigError, match=r"config\.network: given -1"):
        checks.signs({"network": -1}, free=("net",))

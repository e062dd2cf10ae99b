"""Claims: verdicts by rule, intervals that cover, a table that fits."""

import dataclasses
import math
import random

import numpy as np
import pytest

from dfx.runs import (
    Claim,
    DamagedRun,
    MissingRun,
    above,
    below,
    exact,
    from_ratios,
    from_seeds,
    geometric_interval,
    mean_interval,
    read_claims,
    table,
    within,
    write_claims,
)
from dfx.runs.table import WIDTH, finding

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


def claim(low=0.4, high=0.6, rule=None, **changes):
    rule, middle = rule or within(0.3, 0.7), (low + high) / 2
    plain = Claim("1", "A 2024", "It is so.", "half", middle, low, high, rule, seeds=3)
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("rule", "low", "high", "verdict"),
    [
        (above(0.95), 0.96, 0.98, HOLDS),
        (above(0.95), 0.95, 0.98, HOLDS),
        (above(0.95), 0.94, 0.98, UNDECIDED),
        (above(0.95), 0.90, 0.95, UNDECIDED),
        (above(0.95), 0.90, 0.94, FAILS),
        (below(0.1), 0.02, 0.1, HOLDS),
        (below(0.1), 0.05, 0.15, UNDECIDED),
        (below(0.1), 0.11, 0.15, FAILS),
        (within(1, 2), 1.0, 2.0, HOLDS),
        (within(1, 2), 0.9, 1.5, UNDECIDED),
        (within(1, 2), 0.5, 2.5, UNDECIDED),
        (within(1, 2), 2.1, 2.5, FAILS),
        (within(1, 2), 0.5, 0.9, FAILS),
        (within(0, 0), 0.0, 0.0, HOLDS),
        (within(0, 0), 1e-9, 1e-9, FAILS),
        (above(0), math.nan, math.nan, UNDECIDED),
        (above(0), -math.inf, math.inf, UNDECIDED),
    ],
)
def test_a_claim_holds_if_its_whole_interval_does_and_fails_if_no_part_does(
    rule, low, high, verdict
):
    assert claim(low, high, rule).verdict == verdict


def test_below_is_above_of_the_opposite():
    rng = random.Random(0)
    for _ in range(200):
        bound, low = rng.gauss(0, 1), rng.gauss(0, 1)
        high = low + rng.random()
        assert above(bound).verdict(low, high) == below(-bound).verdict(-high, -low)


def test_a_narrower_interval_never_turns_a_verdict_round():
    rng = random.Random(1)
    for _ in range(500):
        rule = within(*sorted((rng.gauss(0, 1), rng.gauss(0, 1))))
        low, a, b, high = sorted(rng.gauss(0, 1) for _ in range(4))
        wide, narrow = rule.verdict(low, high), rule.verdict(a, b)
        assert wide in (UNDECIDED, narrow)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_interval_covers_the_mean_as_often_as_it_says(n):
    values = np.random.default_rng(0).normal(2.0, 3.0, (n, 20_000))
    mean, low, high = mean_interval(values)
    np.testing.assert_allclose(mean, values.mean(0))
    covered = np.mean((low <= 2.0) & (high >= 2.0))
    # Four binomial standard errors of 0.0015. With 1.96 in place of Student's t: 0.70 at n = 2.
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000)


def test_the_interval_is_the_tabled_one():
    # Student's t at 97.5% with 2 degrees of freedom is 4.3027 (tables).
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    half = 4.3027 / 3**0.5
    np.testing.assert_allclose([mean, low, high], [2, 2 - half, 2 + half], atol=5e-5)
    # At 95%, for the middle 90%, it is 2.9200; of logarithms the same.
    half = 2.9200 / 3**0.5
    np.testing.assert_allclose(mean_interval([1.0, 2.0, 3.0], 0.9), [2, 2 - half, 2 + half], 5e-5)
    ends = geometric_interval(np.exp([1.0, 2.0, 3.0]), 0.9)
    np.testing.assert_allclose(np.log(ends), [2, 2 - half, 2 + half], 5e-5)


def test_a_number_without_sampling_error_is_its_own_interval():
    plain = exact(0.5, id="1", paper="", statement="", paper_value="", rule=within(0.5, 0.6))
    assert (plain.ours, plain.low, plain.high, plain.verdict) == (0.5, 0.5, 0.5, HOLDS)


def test_a_ratio_and_its_inverse_have_inverse_intervals_above_zero():
    ratios = np.array([[0.1, 2.0], [4.0, 3.0], [0.5, 2.5]])
    mean, low, high = geometric_interval(ratios)
    inverse, inverse_low, inverse_high = geometric_interval(1 / ratios)
    np.testing.assert_allclose([inverse, inverse_low, inverse_high], [1 / mean, 1 / high, 1 / low])
    np.testing.assert_allclose(mean, np.prod(ratios, axis=0) ** (1 / 3))
    assert np.all(low > 0) and np.all(low < mean) and np.all(mean < high)


def test_a_ratio_that_is_not_above_zero_decides_nothing():
    fields = dict(id="1", paper="", statement="", paper_value="", rule=above(0.5))
    assert from_ratios([2.0, 2.1, 2.2], **fields).verdict == HOLDS
    assert from_ratios([2.0, 0.0, 2.2], **fields).verdict == UNDECIDED


def test_one_seed_has_no_interval_and_decides_nothing():
    one = from_seeds([0.99], id="1", paper="", statement="", paper_value="", rule=above(0.5))
    assert math.isnan(one.low) and one.ours == 0.99 and one.seeds == 1
    assert one.verdict == UNDECIDED


def test_a_seed_that_is_not_finite_decides_nothing():
    values = [1.0, math.nan, 1.0]
    broken = from_seeds(values, id="1", paper="", statement="", paper_value="", rule=above(0))
    assert broken.verdict == UNDECIDED


def test_claims_come_back_from_their_file(tmp_path):
    claims = [
        claim(rule=above(0.1)),
        claim(id="2", rule=below(-1e-300), unit="%", ours=math.inf, low=-math.inf, high=math.inf),
        claim(id="3", low=0.1 + 0.2, high=1 / 3),
    ]
    write_claims(tmp_path, claims)
    assert read_claims(tmp_path) == claims
    write_claims(tmp_path, [claim(math.nan, math.nan)])
    assert math.isnan(read_claims(tmp_path)[0].ours)


def test_claims_that_are_missing_or_torn_are_one_line(tmp_path):
    with pytest.raises(MissingRun, match=r"claims\.json: `dfx figures .*` makes it"):
        read_claims(tmp_path)
    write_claims(tmp_path, [claim(), claim(id="2")])
    whole = (tmp_path / "claims.json").read_bytes()
    rng = random.Random(0)
    cut = [whole[: rng.randrange(len(whole) - 2)] for _ in range(30)]
    changed = whole.replace(b'"id": "2"', b'"id": "3"')
    for data in [*cut, changed, b"3", b"[]", b"{}", b'{"claims": []}', b"{}}"]:
        (tmp_path / "claims.json").write_bytes(data)
        with pytest.raises(DamagedRun, match=r"claims\.json is damaged"):
            read_claims(tmp_path)
    (tmp_path / "claims.json").unlink()
    (tmp_path / "claims.json").mkdir()
    with pytest.raises(DamagedRun, match=r"claims\.json cannot be read: Is a directory"):
        read_claims(tmp_path)


def test_the_table_fits_whatever_is_in_it():
    rng = random.Random(0)
    words = ["a", "hallucinated", "x" * 90, "mode-interpolation", "of", "1e-300", "(Fig. 3)"]
    claims = []
    for index in range(60):
        text = [" ".join(rng.choices(words, k=rng.randrange(1, 25))) for _ in range(4)]
        low = rng.gauss(0, 1) * 10.0 ** rng.randrange(-12, 12)
        high = low + abs(rng.gauss(0, 1)) * 10.0 ** rng.randrange(-12, 12)
        claims.append(claim(low, high, above(rng.gauss(0, 1)), id=f"{index}abcdefgh", paper=text[0],
                            statement=text[1], paper_value=text[2], unit=text[3]))  # fmt: skip
    lines = table(claims).splitlines()
    assert max(map(len, lines)) <= WIDTH == 120


def test_the_table_says_number_interval_rule_and_verdict():
    text = table([claim(0.9391, 0.9633, above(0.95), ours=0.9512), claim(id="2"), claim(id="3")])
    parts = ("It is so.", "A 2024", "half", "0.951 [0.939, 0.963]", "at least 0.95", "undecided")
    assert all(part in text for part in parts)
    assert "Of 3 claims 2 hold, 0 fail, 1 are undecided." in text
    assert "no claims" in table([])


@pytest.mark.parametrize(
    ("ours", "low", "high", "text"),
    [
        (0.9512, 0.9391, 0.9633, "0.951 [0.939, 0.963]"),
        (0.5, 0.494, 0.506, "0.5000 [0.4940, 0.5060]"),
        (12345.6, 12000.0, 12700.0, "12346 [12000, 12700]"),
        (3.25e-9, 3.2e-9, 3.3e-9, "3.25e-09 [3.2e-09, 3.3e-09]"),
        (0.0, 0.0, 0.0, "0"),
        (2.94, 0.365, 23.7, "2.9 [0.36, 24]"),
        (0.2, 0.03, 0.29, "0.20 [0.03, 0.29]"),
        (0.5, math.nan, math.nan, "0.5 [no interval]"),
        (2.0, -math.inf, math.inf, "2 [-inf, inf]"),
    ],
)
def test_a_finding_is_shown_to_the_digits_it_has(ours, low, high, text):
    assert finding(claim(low, high, ours=ours)) == text
    assert finding(claim(low, high, ours=ours, unit="%")).count(" %") == 1

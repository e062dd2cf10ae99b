"""Claims: what a paper says, what was found, and the verdict by a rule fixed beforehand.

A rule is the interval of values for which the claim is true. The verdict compares it with the
interval of what was found: holds if that lies inside, fails if the two do not meet, else undecided.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dfx.runs.files import read_sealed, write_sealed
from dfx.runs.record import DamagedRun, MissingRun

FILE = "claims.json"
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


class Rule(NamedTuple):
    """The values, from `low` to `high` with both ends, for which a claim is true."""

    low: float
    high: float

    def verdict(self, low: float, high: float) -> str:
        """Return "holds", "fails" or "undecided" for a finding between `low` and `high`.

        An end that is nan compares as false with everything, and so decides nothing.
        """
        if self.low <= low and high <= self.high:
            return HOLDS
        return FAILS if high < self.low or low > self.high else UNDECIDED

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"at least {self.low:g}"
        if math.isinf(self.low):
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}" if self.low < self.high else f"{self.low:g}"


def above(bound: float) -> Rule:
    """Return the rule of a claim that is true from `bound` on.

    >>> above(0.95).verdict(0.96, 0.98), above(0.95).verdict(0.94, 0.98)
    ('holds', 'undecided')
    """
    return Rule(float(bound), math.inf)


def below(bound: float) -> Rule:
    """Return the rule of a claim that is true up to `bound`."""
    return Rule(-math.inf, float(bound))


def within(low: float, high: float) -> Rule:
    """Return the rule of a claim that is true from `low` to `high`."""
    return Rule(float(low), float(high))


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a paper beside what was found.

    Attributes:
      id: short, such as "5a"; unique in its study.
      paper: where it is said, such as "Aithal et al. 2024, abstract".
      statement: the claim in one plain sentence.
      paper_value: the paper's number as it prints it, "-" if it gives none.
      ours: what was found; `low` and `high` bound it (95% over seeds), nan if that is not known.
      rule: the values for which the claim is true, fixed before the number was seen.
      unit: of ours, "" if it has none.
      seeds: how many independent runs stand behind the interval.
    """

    id: str
    paper: str
    statement: str
    paper_value: str
    ours: float
    low: float
    high: float
    rule: Rule
    unit: str = ""
    seeds: int = 1

    @property
    def verdict(self) -> str:
        """Whether the claim "holds", "fails" or is "undecided", by its rule."""
        return self.rule.verdict(self.low, self.high)


def from_seeds(values: Any, **fields: Any) -> Claim:
    """Return the claim whose finding is the mean over seeds of `values` (n,), with its interval."""
    mean, low, high = map(float, mean_interval(values))
    return Claim(ours=mean, low=low, high=high, seeds=len(values), **fields)


def from_ratios(values: Any, **fields: Any) -> Claim:
    """Return the claim on a positive number, such as a ratio: its geometric mean over seeds."""
    mean, low, high = map(float, geometric_interval(values))
    return Claim(ours=mean, low=low, high=high, seeds=len(values), **fields)


def exact(value: Any, **fields: Any) -> Claim:
    """Return the claim on a number that has no sampling error: its interval is itself."""
    return Claim(ours=float(value), low=float(value), high=float(value), **fields)


def mean_interval(values: Any, level: float = 0.95) -> tuple[Any, Any, Any]:
    """Return the mean over seeds and the low and the high end of its interval.

    By Student's t with n - 1 degrees of freedom, exact for independent normal values. One seed has
    no interval: its ends are nan.

    Args:
      values: shape (n, *shape), seeds first.
      level: the share of intervals that would hold the true mean.

    Returns:
      Three arrays of shape `shape`; numbers if that is ().
    """
    from scipy.special import stdtrit

    values = np.asarray(values, np.float64)
    mean, n = values.mean(axis=0), len(values)
    if n < 2:
        return mean, mean * math.nan, mean * math.nan
    half = stdtrit(n - 1, 0.5 + level / 2) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return mean, mean - half, mean + half


def geometric_interval(values: Any, level: float = 0.95) -> tuple[Any, Any, Any]:
    """Return the geometric mean over seeds of `values` above 0 and its interval, above 0 as well.

    It is `mean_interval` of the logarithms: of a ratio and of its inverse it says the same, which
    the arithmetic mean of noisy ratios does not. A value that is not above 0 gives nan.
    """
    values = np.asarray(values, np.float64)
    mean, low, high = mean_interval(np.log(np.where(values > 0, values, np.nan)), level)
    return np.exp(mean), np.exp(low), np.exp(high)


def write_claims(folder: str | Path, claims: Iterable[Claim]) -> None:
    """Write claims.json into the run folder, whole or not at all."""
    rows = [
        {**dataclasses.asdict(claim), "rule": list(claim.rule), "verdict": claim.verdict}
        for claim in claims
    ]
    write_sealed(Path(folder) / FILE, {"claims": rows})


def read_claims(folder: str | Path) -> list[Claim]:
    """Return the claims of a run folder; the verdicts are computed anew from their rules.

    Raises:
      MissingRun: there is no claims.json.
      DamagedRun: it cannot be read, or is not what was written.
    """
    path = Path(folder) / FILE
    try:
        return [_claim(row) for row in read_sealed(path)["claims"]]
    except (FileNotFoundError, NotADirectoryError):
        message = f"there is no {path}: `dfx figures {folder}` makes it from a finished run"
        raise MissingRun(message) from None
    except OSError as error:
        raise DamagedRun(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DamagedRun(f"{path} is damaged: `dfx figures {folder}` makes it anew") from None


def _claim(row: dict[str, Any]) -> Claim:
    fields = {field.name: row[field.name] for field in dataclasses.fields(Claim)}
    numbers = {name: float(row[name]) for name in ("ours", "low", "high")}  # "nan" is text in JSON
    low, high = row["rule"]
    return Claim(**fields | numbers | {"rule": Rule(float(low), float(high))})

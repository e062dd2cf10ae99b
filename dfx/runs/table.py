"""The claims table: plain text of at most 120 columns that a newcomer can read."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

from dfx.runs.claims import FAILS, HOLDS, UNDECIDED, Claim

WIDTH = 120
_COLUMNS = (
    ("claim", 5),
    ("what the paper says", 50),
    ("its number", 17),
    ("ours", 28),
    ("verdict", 9),
)
_GAP = "  "
_NOTE = (
    "Ours: the mean over seeds and, in brackets, its 95% interval; without brackets what has no "
    "sampling error, or is the same for every seed. A claim holds if the whole interval lies where "
    "the claim is true (given under each claim, fixed beforehand), fails if no part of it does, "
    "and is undecided otherwise."
)


def table(claims: Iterable[Claim]) -> str:
    """Return the claims as a table with a heading and a note on how to read it."""
    claims = list(claims)
    if not claims:
        return "This run makes no claims."
    rule = _GAP.join("-" * width for _, width in _COLUMNS)
    lines = [*_row([name for name, _ in _COLUMNS]), rule]
    for claim in claims:
        lines += _row(_cells(claim))
    return "\n".join([*lines, rule, *textwrap.wrap(_NOTE, WIDTH), _count(claims)])


def _cells(claim: Claim) -> list[str]:
    said = f"{claim.statement}\n({claim.paper}; true if {claim.rule}{_unit(claim)})"
    return [claim.id, said, claim.paper_value, finding(claim), claim.verdict]


def finding(claim: Claim) -> str:
    """Return what was found, with its interval, to two digits of the interval's width; each number
    to two digits of its own where the interval spans more than a decade above 0. What has no
    spread stands alone.

    >>> from dfx.runs.claims import above
    >>> finding(Claim("1", "", "", "", 0.9512, 0.9391, 0.9633, above(0.95)))
    '0.951 [0.939, 0.963]'
    >>> finding(Claim("2", "", "", "", 2.94, 0.365, 23.7, above(1)))
    '2.9 [0.36, 24]'
    """
    if math.isnan(claim.low) or math.isnan(claim.high):
        return f"{claim.ours:.4g}{_unit(claim)} [no interval]"
    if claim.low == claim.high:
        return f"{claim.ours:.4g}{_unit(claim)}"
    form = ".2g" if 0 < 10 * claim.low < claim.high else _format(claim.high - claim.low)
    ours, low, high = (format(value, form) for value in (claim.ours, claim.low, claim.high))
    return f"{ours} [{low}, {high}]{_unit(claim)}"


def _format(width: float) -> str:
    """Return the format that shows half of `width` to two digits, without exponent if short."""
    if math.isinf(width):
        return ".4g"
    decimals = 1 - math.floor(math.log10(width / 2))
    return f".{max(decimals, 0)}f" if -3 <= decimals <= 5 else ".3g"


def _unit(claim: Claim) -> str:
    return f" {claim.unit}" if claim.unit else ""


def _row(cells: list[str]) -> list[str]:
    """Return one row as lines: each cell is wrapped to the width of its column."""
    wrapped = [_wrap(cell, width) for cell, (_, width) in zip(cells, _COLUMNS)]
    height = max(map(len, wrapped))
    padded = [lines + [""] * (height - len(lines)) for lines in wrapped]
    return [
        _GAP.join(part.ljust(width) for part, (_, width) in zip(parts, _COLUMNS)).rstrip()
        for parts in zip(*padded)
    ]


def _wrap(cell: str, width: int) -> list[str]:
    return [part for line in cell.split("\n") for part in textwrap.wrap(line, width) or [""]]


def _count(claims: list[Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    counts = ((verdicts.count(HOLDS), "hold"), (verdicts.count(FAILS), "fail"))
    words = [f"{count} {verb}" for count, verb in counts]
    return f"Of {len(claims)} claims {', '.join(words)}, {verdicts.count(UNDECIDED)} are undecided."

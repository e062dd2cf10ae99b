"""Runs: configs, run folders, metrics, progress, provenance and claims."""

from dfx.runs.checks import ConfigError
from dfx.runs.claims import (
    Claim,
    Rule,
    above,
    below,
    exact,
    from_ratios,
    from_seeds,
    geometric_interval,
    mean_interval,
    read_claims,
    within,
    write_claims,
)
from dfx.runs.config import config_hash, describe, load, unchanged
from dfx.runs.folder import Run
from dfx.runs.opening import open_run
from dfx.runs.progress import Progress, say
from dfx.runs.record import DamagedRun, MissingRun, Record, read_run
from dfx.runs.table import table

__all__ = [
    "Claim",
    "ConfigError",
    "DamagedRun",
    "MissingRun",
    "Progress",
    "Record",
    "Rule",
    "Run",
    "above",
    "below",
    "config_hash",
    "describe",
    "exact",
    "from_ratios",
    "from_seeds",
    "geometric_interval",
    "load",
    "mean_interval",
    "open_run",
    "read_claims",
    "read_run",
    "say",
    "table",
    "unchanged",
    "within",
    "write_claims",
]

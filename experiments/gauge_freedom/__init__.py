"""Gauge freedom, conservative nets and the intrinsic dimension."""

from experiments.gauge_freedom.study import run

__all__ = ["run"]

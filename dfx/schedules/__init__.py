"""Forward processes, everything that follows from them, and time grids."""

from dfx.schedules import grids
from dfx.schedules.continuous import (
    EDM,
    VE,
    MeanReverting,
    RectifiedLinear,
    SubVP,
    Trigonometric,
    VPCosine,
    VPLinear,
)
from dfx.schedules.derived import (
    diffusion,
    drift_coefficient,
    log_snr,
    marginal_sample,
    marginal_velocity,
    mean_drift,
    t_of_log_snr,
)
from dfx.schedules.discrete import DiscreteVP, ddpm_table, discrete_linear
from dfx.schedules.registry import REGISTRY, check, make
from dfx.schedules.schedule import CLEAN, Level, Schedule, expand, on_host
from dfx.schedules.zero_snr import RescaledTable, discrete_zero_snr, zero_terminal_snr

__all__ = [
    "CLEAN",
    "EDM",
    "REGISTRY",
    "VE",
    "DiscreteVP",
    "Level",
    "MeanReverting",
    "RectifiedLinear",
    "RescaledTable",
    "Schedule",
    "SubVP",
    "Trigonometric",
    "VPCosine",
    "VPLinear",
    "check",
    "ddpm_table",
    "diffusion",
    "discrete_linear",
    "discrete_zero_snr",
    "drift_coefficient",
    "expand",
    "grids",
    "log_snr",
    "make",
    "marginal_sample",
    "marginal_velocity",
    "mean_drift",
    "on_host",
    "t_of_log_snr",
    "zero_terminal_snr",
]

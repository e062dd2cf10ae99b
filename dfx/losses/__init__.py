"""What a net is trained on: denoising regression, its weightings and its laws of time."""

from dfx.losses import times, weighting
from dfx.losses.denoising import denoising, per_sample, prediction_target
from dfx.losses.times import (
    TimeSampler,
    discrete,
    log_normal_sigma,
    logit_normal,
    stratify,
    uniform,
)

__all__ = [
    "TimeSampler",
    "denoising",
    "discrete",
    "log_normal_sigma",
    "logit_normal",
    "per_sample",
    "prediction_target",
    "stratify",
    "times",
    "uniform",
    "weighting",
]

"""What a net is trained on: denoising regression, its weightings and its laws of time."""

from dfx.losses import collocation, regularisers, times, weighting
from dfx.losses.collocation import Collocation
from dfx.losses.denoising import denoising, per_sample, prediction_target
from dfx.losses.regularisers import asymmetry, fokker_planck, plus, score_fokker_planck
from dfx.losses.times import (
    TimeSampler,
    discrete,
    log_normal_sigma,
    logit_normal,
    stratify,
    uniform,
)

__all__ = [
    "Collocation",
    "TimeSampler",
    "asymmetry",
    "collocation",
    "denoising",
    "discrete",
    "fokker_planck",
    "log_normal_sigma",
    "logit_normal",
    "per_sample",
    "plus",
    "prediction_target",
    "regularisers",
    "score_fokker_planck",
    "stratify",
    "times",
    "uniform",
    "weighting",
]

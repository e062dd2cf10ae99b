"""Estimates of the clean data: exact or from a net, in any prediction type."""

from dfx.fields.convert import PREDICTIONS, SIGMA_DATA, convert, pair
from dfx.fields.derivatives import divergence, jacobian
from dfx.fields.field import (
    FunctionField,
    NetField,
    OracleField,
    Prediction,
    as_prediction,
    denoiser,
    from_function,
    from_net,
    net_time,
    oracle,
)
from dfx.fields.flatten import Flattened, flattened
from dfx.fields.guidance import autoguidance, cfg_plus_plus, classifier, classifier_free, interval
from dfx.fields.threshold import clip, dynamic_threshold

__all__ = [
    "PREDICTIONS",
    "SIGMA_DATA",
    "Flattened",
    "FunctionField",
    "NetField",
    "OracleField",
    "Prediction",
    "as_prediction",
    "autoguidance",
    "cfg_plus_plus",
    "classifier",
    "classifier_free",
    "clip",
    "convert",
    "denoiser",
    "divergence",
    "dynamic_threshold",
    "flattened",
    "from_function",
    "from_net",
    "interval",
    "jacobian",
    "net_time",
    "oracle",
    "pair",
]

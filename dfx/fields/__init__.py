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

__all__ = [
    "PREDICTIONS",
    "SIGMA_DATA",
    "FunctionField",
    "NetField",
    "OracleField",
    "Prediction",
    "as_prediction",
    "convert",
    "denoiser",
    "divergence",
    "from_function",
    "from_net",
    "jacobian",
    "net_time",
    "oracle",
    "pair",
]

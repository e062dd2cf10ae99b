"""Networks as pairs of pure functions; see `dfx.nets.net` for what a net is."""

from dfx.nets import energy, inception
from dfx.nets.classifier import Classifier, classifier
from dfx.nets.dit import dit
from dfx.nets.edm_unet import edm_unet
from dfx.nets.energy import EnergyNet, energy_mlp
from dfx.nets.low_rank import alpha_sigma, low_rank
from dfx.nets.mlp import mlp, residual_mlp, weight_tied_mlp
from dfx.nets.net import Net, from_linen, num_params
from dfx.nets.presets import dit_b, dit_l, dit_s, dit_xl, edm_adm, edm_ddpmpp, edm_ncsnpp
from dfx.nets.registry import REGISTRY, make
from dfx.nets.unet import unet

__all__ = [
    "REGISTRY",
    "Classifier",
    "EnergyNet",
    "Net",
    "alpha_sigma",
    "classifier",
    "dit",
    "dit_b",
    "dit_l",
    "dit_s",
    "dit_xl",
    "edm_adm",
    "edm_ddpmpp",
    "edm_ncsnpp",
    "edm_unet",
    "energy",
    "energy_mlp",
    "from_linen",
    "inception",
    "low_rank",
    "make",
    "mlp",
    "num_params",
    "residual_mlp",
    "unet",
    "weight_tied_mlp",
]

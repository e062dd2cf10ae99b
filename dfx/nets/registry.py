"""Nets by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dfx.errors import call
from dfx.nets import presets
from dfx.nets.dit import dit
from dfx.nets.edm_unet import edm_unet
from dfx.nets.energy import EnergyNet, energy_mlp
from dfx.nets.mlp import mlp, residual_mlp, weight_tied_mlp
from dfx.nets.net import Net
from dfx.nets.unet import unet

#: Name -> maker. Its first argument is the dimension d (perceptrons) or a picture's shape.
REGISTRY: dict[str, Callable[..., Net | EnergyNet]] = {
    "weight_tied_mlp": weight_tied_mlp,
    "residual_mlp": residual_mlp,
    "mlp": mlp,
    "unet": unet,
    "dit": dit,
    "edm_unet": edm_unet,
    "edm_ddpmpp": presets.edm_ddpmpp,
    "edm_ncsnpp": presets.edm_ncsnpp,
    "edm_adm": presets.edm_adm,
    "dit_s": presets.dit_s,
    "dit_b": presets.dit_b,
    "dit_l": presets.dit_l,
    "dit_xl": presets.dit_xl,
    "energy_mlp": energy_mlp,
}


def make(name: str, size: Any, **options) -> Net | EnergyNet:
    """Return the net of that name for samples of that size.

    >>> make("mlp", 2, width=64) == make("mlp", 2, width=64)
    True

    Raises:
      PersonError: the name is not in `REGISTRY`, or an option is not one of the maker's.
    """
    return call("net", name, REGISTRY, size, **options)

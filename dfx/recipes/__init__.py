"""Recipes: whole ways to train and sample, as their papers state them, made of library parts."""

from dfx.recipes.floors import constant_loss, gaussian_loss
from dfx.recipes.recipe import Model, Reached, Recipe, Sampler, Training
from dfx.recipes.registry import REGISTRY, make
from dfx.recipes.zero_snr import RescaledTable, zero_terminal_snr

__all__ = [
    "REGISTRY",
    "Model",
    "Reached",
    "Recipe",
    "RescaledTable",
    "Sampler",
    "Training",
    "constant_loss",
    "gaussian_loss",
    "make",
    "zero_terminal_snr",
]

"""Recipes: whole ways to train and sample, as their papers state them, made of library parts."""

from dfx.recipes.floors import constant_loss, gaussian_loss
from dfx.recipes.recipe import Model, Reached, Recipe, Sampler, Training
from dfx.recipes.registry import REGISTRY, make

__all__ = [
    "REGISTRY",
    "Model",
    "Reached",
    "Recipe",
    "Sampler",
    "Training",
    "constant_loss",
    "gaussian_loss",
    "make",
]

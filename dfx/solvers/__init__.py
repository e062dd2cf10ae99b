"""Solvers as data: builders of tableaus, and one `sample` that runs them all."""

from dfx.solvers.ddim import ddim
from dfx.solvers.ddpm import ddpm
from dfx.solvers.euler import euler, euler_maruyama
from dfx.solvers.heun import heun
from dfx.solvers.noise import prior
from dfx.solvers.observers import Observer, Row, together, trajectory, window_variance
from dfx.solvers.recorder import Evaluation, Lin, Recorder
from dfx.solvers.registry import REGISTRY, Solver, make
from dfx.solvers.sample import sample
from dfx.solvers.steps import ends_clean, pairs, record
from dfx.solvers.tableau import NOISE, Rows, Tableau, merge, output, pad, stack, unstack

__all__ = [
    "NOISE",
    "REGISTRY",
    "Evaluation",
    "Lin",
    "Observer",
    "Recorder",
    "Row",
    "Rows",
    "Solver",
    "Tableau",
    "ddim",
    "ddpm",
    "ends_clean",
    "euler",
    "euler_maruyama",
    "heun",
    "make",
    "merge",
    "output",
    "pad",
    "pairs",
    "prior",
    "record",
    "sample",
    "stack",
    "together",
    "trajectory",
    "unstack",
    "window_variance",
]

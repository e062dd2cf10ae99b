"""Solvers as data: builders of tableaus, and one `sample` that runs them all."""

from dfx.solvers.adams import deis_tab, lms
from dfx.solvers.adaptive import Path, sample_adaptive
from dfx.solvers.ancestral import euler_ancestral, reverse_diffusion
from dfx.solvers.brownian import BrownianNoise, brownian
from dfx.solvers.cfgpp import cfgpp
from dfx.solvers.ddim import ddim
from dfx.solvers.ddpm import ddpm
from dfx.solvers.dpm_multistep import dpm_multistep
from dfx.solvers.dpm_sde import sde_dpm_multistep
from dfx.solvers.dpm_singlestep import dpm_singlestep, dpm_solver_fast, fast_orders
from dfx.solvers.dpm_v3 import ModelStatistics, dpm_solver_v3, model_statistics
from dfx.solvers.euler import euler, euler_maruyama
from dfx.solvers.files import load, save
from dfx.solvers.finish import half_denoise
from dfx.solvers.heun import heun
from dfx.solvers.kdpm2 import kdpm2
from dfx.solvers.langevin import langevin_step, sample_with_corrector
from dfx.solvers.learned import Fit, descend, least_squares, multistep
from dfx.solvers.likelihood import LogLikelihood, log_likelihood
from dfx.solvers.momentum import ghvb, heavy_ball
from dfx.solvers.noise import prior
from dfx.solvers.observers import Observer, Row, together, trajectory, window_variance
from dfx.solvers.pndm import ipndm, plms, pndm, s_pndm
from dfx.solvers.recorder import Evaluation, Lin, Recorder
from dfx.solvers.registry import REGISTRY, Solver, make
from dfx.solvers.runge_kutta import METHODS, Butcher, runge_kutta
from dfx.solvers.sa import sa_solver
from dfx.solvers.sample import sample
from dfx.solvers.steps import ends_clean, pairs, record
from dfx.solvers.tableau import NOISE, Rows, Tableau, merge, output, pad, stack, unstack
from dfx.solvers.teleport import Start, handover, teleport
from dfx.solvers.unipc import unipc

__all__ = [
    "METHODS",
    "NOISE",
    "REGISTRY",
    "BrownianNoise",
    "Butcher",
    "Evaluation",
    "Fit",
    "Lin",
    "LogLikelihood",
    "ModelStatistics",
    "Observer",
    "Path",
    "Recorder",
    "Row",
    "Rows",
    "Solver",
    "Start",
    "Tableau",
    "brownian",
    "cfgpp",
    "ddim",
    "ddpm",
    "deis_tab",
    "descend",
    "dpm_multistep",
    "dpm_singlestep",
    "dpm_solver_fast",
    "dpm_solver_v3",
    "ends_clean",
    "euler",
    "euler_ancestral",
    "euler_maruyama",
    "fast_orders",
    "ghvb",
    "half_denoise",
    "handover",
    "heavy_ball",
    "heun",
    "ipndm",
    "kdpm2",
    "langevin_step",
    "least_squares",
    "lms",
    "load",
    "log_likelihood",
    "make",
    "merge",
    "model_statistics",
    "multistep",
    "output",
    "pad",
    "pairs",
    "plms",
    "pndm",
    "prior",
    "record",
    "reverse_diffusion",
    "runge_kutta",
    "s_pndm",
    "sa_solver",
    "sample",
    "sample_adaptive",
    "sample_with_corrector",
    "save",
    "sde_dpm_multistep",
    "stack",
    "teleport",
    "together",
    "trajectory",
    "unipc",
    "unstack",
    "window_variance",
]

"""W1 by other packages, those that are installed: diffusers, k-diffusion, flow_matching (torch) and
diffrax.

Each gets the posterior mean of `w1_loops` in its own array library and its own loop. What differs:
k-diffusion and diffrax integrate x / alpha in sigma / alpha, diffrax has no ancestral or multistep
sampler (ancestral: Euler-Maruyama of the reverse equation), flow_matching has neither and runs on
the straight path (Euler in 50 steps, midpoint in 18), so its ends are other points of the same law.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from typing import Any

import numpy as np

from benchmarks.timing import num_cpus
from benchmarks.w1_loops import ABAR, CASES, CENTRES, STD, posterior_mean, ratios

DIFFUSERS = {
    "ddpm1000": "DDPMScheduler",
    "ddim50": "DDIMScheduler",
    "dpmpp20": "DPMSolverMultistepScheduler",
}
K_DIFFUSION = {
    "ddpm1000": "sample_euler_ancestral",
    "ddim50": "sample_euler",
    "dpmpp20": "sample_dpmpp_2m",
    "heun18": "sample_heun",
}
FLOW_MATCHING = {"ddim50": ("euler", 50), "heun18": ("midpoint", 18)}


def ways(case: str, x: np.ndarray) -> dict:
    """Return the peers that have a sampler for this case, as calls without arguments."""
    found = {}
    if _has("torch", "diffusers") and case in DIFFUSERS:
        found["diffusers"] = by_diffusers(case, x)
    if _has("torch", "k_diffusion", "torchsde"):
        found["k_diffusion"] = by_k_diffusion(case, x)
    if _has("diffrax") and case != "dpmpp20":
        found["diffrax"] = by_diffrax(case, x)
    if _has("torch", "flow_matching") and case in FLOW_MATCHING:
        found["flow_matching"] = by_flow_matching(case, x)
    return found


def torch_mean():
    """Return torch and the posterior mean of (x, alpha, sigma), the fastest of four forms tried."""
    import torch

    torch.set_num_threads(num_cpus())
    torch.set_grad_enabled(False)
    centres = torch.tensor(CENTRES, dtype=torch.float32)
    squares = (centres**2).sum(1, keepdim=True)
    rows = torch.cat([centres.T, torch.ones(1, 25)])

    def mean(x, alpha, sigma):
        variance = alpha * alpha * STD**2 + sigma * sigma
        shift = squares * (-alpha * alpha / (2 * variance))
        logits = torch.addmm(shift, centres, x.T, alpha=alpha / variance)
        sums = rows @ logits.sub_(logits.amax(0)).exp_()
        gain = alpha * STD**2 / variance
        return (sums[:2] / sums[2]).T.mul(1 - alpha * gain).add_(x, alpha=gain)

    return torch, mean


def by_diffusers(case: str, x: np.ndarray):
    """Return the call that loops over a diffusers scheduler, as its pipelines do."""
    import diffusers

    torch, mean = torch_mean()
    options: dict[str, dict] = {
        "ddpm1000": {"variance_type": "fixed_small", "clip_sample": False},
        "ddim50": {"clip_sample": False},
        "dpmpp20": {"use_karras_sigmas": True, "final_sigmas_type": "zero"},
    }
    scheduler = getattr(diffusers, DIFFUSERS[case])(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **options[case]
    )
    start, abar, steps = torch.from_numpy(x.copy()), torch.tensor(ABAR), CASES[case]

    def run():
        scheduler.set_timesteps(steps)
        points = start
        for i, t in enumerate(scheduler.timesteps):
            if case == "dpmpp20":  # its levels lie between those of the table
                ratio = float(scheduler.sigmas[i])
                alpha = (1 + ratio**2) ** -0.5
                sigma = alpha * ratio
            else:
                alpha, sigma = float(abar[t]) ** 0.5, float(1 - abar[t]) ** 0.5
            eps = (points - alpha * mean(points, alpha, sigma)) / sigma
            points = scheduler.step(eps, t, points).prev_sample
        return points.numpy()

    return run


def by_k_diffusion(case: str, x: np.ndarray):
    """Return the call of a k-diffusion sampler, which works on x / alpha."""
    sampling = _k_sampling()
    torch, mean = torch_mean()
    sigmas = torch.tensor(ratios(case), dtype=torch.float32)
    start = torch.from_numpy(x.copy()) * (1 + sigmas[0] ** 2) ** 0.5
    sampler = functools.partial(getattr(sampling, K_DIFFUSION[case]), disable=True)

    def model(points, sigma):
        return mean(points, 1.0, float(sigma[0]))

    return lambda: sampler(model, start, sigmas).numpy()


def by_flow_matching(case: str, x: np.ndarray):
    """Return the call of flow_matching's solver on x_t = t x0 + (1 - t) eps, t from 0 to 1."""
    from flow_matching.solver import ODESolver

    torch, mean = torch_mean()
    method, steps = FLOW_MATCHING[case]
    start = torch.from_numpy(x.copy())

    def velocity(x, t):
        t = min(float(t), 1 - 1e-4)
        return (mean(x, t, 1 - t) - x) / (1 - t)

    grid = torch.linspace(0, 1, steps + 1)
    solver = ODESolver(velocity)
    return lambda: solver.sample(start, step_size=None, method=method, time_grid=grid).numpy()


def by_diffrax(case: str, x: np.ndarray):
    """Return the jitted diffrax solve of x / alpha in S = sigma / alpha, from large S to small."""
    import diffrax
    import jax
    import jax.numpy as jnp

    levels = ratios(case)
    if case == "heun18":  # no slope at S = 0: the last step is the posterior mean
        levels = levels[:-1]
    times = jnp.asarray(levels[0] - levels, jnp.float32)
    start = jnp.asarray(x * np.sqrt(1 + levels[0] ** 2), jnp.float32)

    def slope(t, points, args):
        level = jnp.float32(levels[0]) - t
        return -(points - posterior_mean(points, 1.0, level)) / level

    options = {"stepsize_controller": diffrax.StepTo(times), "max_steps": len(levels)}
    if case == "ddpm1000":
        options["adjoint"] = diffrax.DirectAdjoint()

    def solve(start, key):
        term, solver = diffrax.ODETerm(slope), diffrax.Euler()
        if case == "heun18":
            solver = diffrax.Heun()
        if case == "ddpm1000":
            term, solver = _reverse_equation(slope, levels[0], start, key)
        ends = times[0], times[-1]
        points = diffrax.diffeqsolve(term, solver, *ends, None, start, **options).ys[-1]
        return posterior_mean(points, 1.0, float(levels[-1])) if case == "heun18" else points

    return functools.partial(jax.jit(solve), start, jax.random.key(1))


def _reverse_equation(slope, first, start, key):
    """dX = -2 slope dS + sqrt(2 S) dw, S falling: the reverse equation of X = x / alpha."""
    import diffrax
    import jax.numpy as jnp
    import lineax

    def diffusion(t, points, args):
        level = jnp.maximum(jnp.float32(first) - t, 0.0)
        return lineax.DiagonalLinearOperator(jnp.full(points.shape, jnp.sqrt(2 * level)))

    path = diffrax.UnsafeBrownianPath(start.shape, key)
    drift = diffrax.ODETerm(lambda t, points, args: 2 * slope(t, points, args))
    return diffrax.MultiTerm(drift, diffrax.ControlTerm(diffusion, path)), diffrax.Euler()


def _k_sampling():
    """k_diffusion.sampling; alone, if what the rest of the package imports is not installed."""
    try:
        return importlib.import_module("k_diffusion.sampling")
    except ImportError:
        package: Any = types.ModuleType("k_diffusion")
        utils: Any = types.ModuleType("k_diffusion.utils")
        spec: Any = importlib.util.find_spec("k_diffusion")
        package.__path__ = list(spec.submodule_search_locations)
        utils.append_dims = lambda x, ndim: x[(..., *[None] * (ndim - x.ndim))]
        package.utils = utils
        sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
        return importlib.import_module("k_diffusion.sampling")


def _has(*modules: str) -> bool:
    return all(m in sys.modules or importlib.util.find_spec(m) for m in modules)

"""The solvers of other packages on the mixture of W1: diffusers and k-diffusion, if installed.

All run on one grid, that of DDIM in n steps: every (1000 / n)-th level of the table of betas from
the noise, then clean data; the Adams methods in sigma stop one step before that. The schedulers of
diffusers that work on sigma / alpha are given these levels instead of their own. Every package gets
its own posterior mean, the fastest that was found, and dfx its oracle of the mixture.

Where both compute the same method, `gap_median` and `gap_99` are quantiles over the particles of
the distance between the ends, from the same start and the same noise: float32 rounding, which grows
near the border of two modes. The noise that is timed is each package's own; k-diffusion draws plain
normals, not its Brownian tree. DEIS of diffusers has its polynomials in log(sigma / alpha), dfx in
time: another method of the same order, without a gap.

How to install them: `benchmarks/README.md`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import measure_in_turn, num_cpus, report
from benchmarks.w1_loops import ABAR, CENTRES, SIGMA_RATIO, STD
from benchmarks.w1_peers import _has, _k_sampling, torch_mean
from benchmarks.w1_toy_sampling import quality
from dfx import fields, schedules, solvers
from dfx.targets import Mixture

STEPS, NUM_PARTICLES, SEED = (20, 50), 10_000, 0

#: Schedulers of diffusers that work on x / alpha.
SCALED = ("LMSDiscreteScheduler", "HeunDiscreteScheduler")


class Method(NamedTuple):
    """A solver in the three packages, by name and with options; None where there is none.

    `like_k` are the options of dfx that make it k-diffusion's, if they are not `options`; `same`
    says whether diffusers computes the same as dfx.
    """

    dfx: str
    options: dict
    diffusers: tuple[str, dict] | None
    k_diffusion: tuple[str, dict] | None = None
    like_k: dict = {}  # noqa: RUF012
    same: bool = True
    to_clean: bool = True


ORACLE = fields.oracle(Mixture.isotropic(CENTRES, STD))

DPM = "DPMSolverMultistepScheduler"
METHODS = {
    "ddim": Method("ddim", {}, ("DDIMScheduler", {"clip_sample": False}), ("sample_euler", {})),
    "2m": Method("dpm_solver_pp_2m", {}, (DPM, {}), ("sample_dpmpp_2m", {})),
    "3m": Method(
        "dpm_solver_pp_3m",
        {"variant": "reference"},
        (DPM, {"solver_order": 3}),
        ("sample_dpmpp_3m_sde", {"eta": 0.0}),
        like_k={"solver_type": "taylor"},
    ),
    "unipc_2": Method("unipc_2", {}, ("UniPCMultistepScheduler", {})),
    "lms": Method("lms", {}, ("LMSDiscreteScheduler", {}), ("sample_lms", {}), to_clean=False),
    "deis": Method(
        "deis_tab",
        {"order": 3},
        ("DEISMultistepScheduler", {"solver_order": 3}),
        same=False,
        to_clean=False,
    ),
    "heun": Method("heun", {}, ("HeunDiscreteScheduler", {}), ("sample_heun", {})),
    "sde_2m": Method(
        "sde_dpm_solver_pp_2m",
        {},
        (DPM, {"algorithm_type": "sde-dpmsolver++"}),
        ("sample_dpmpp_2m_sde", {}),
    ),
    "plms": Method(
        "plms",
        {"variant": "reference"},
        ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True}),
    ),
}


def indices(steps: int) -> np.ndarray:
    """Return where the levels of the grid are in the table, without that of clean data."""
    return np.arange(steps)[::-1] * (len(ABAR) // steps)


def levels(method: Method, steps: int) -> np.ndarray:
    """Return sigma / alpha at the ends of the steps."""
    noisy = SIGMA_RATIO[indices(steps)]
    return np.append(noisy, 0.0) if method.to_clean else noisy


def tableau(method: Method, steps: int, **options) -> solvers.Tableau:
    """Return the solver of dfx on the grid."""
    schedule = schedules.discrete_linear()
    times = schedule.time_of_index(indices(steps).astype(np.float64))
    grid = np.append(times, 0.0) if method.to_clean else times
    return solvers.make(method.dfx, schedule, grid, **{**method.options, **options})


def by_diffusers(method: Method, steps: int, x: np.ndarray, noise=None):
    """Return the call that loops over a scheduler; `noise` by step stands in for its own."""
    import diffusers

    assert method.diffusers is not None
    torch, mean = torch_mean()
    name, options = method.diffusers
    scheduler = getattr(diffusers, name)(
        beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **options
    )
    grid = levels(method, steps)
    noisy = indices(steps)[: len(grid) - 1]
    scaled = name in SCALED
    first, last = np.sqrt(1 + grid[[0, -1]] ** 2) if scaled else (1.0, 1.0)
    start = torch.tensor(x * first, dtype=torch.float32)

    def prepare():
        """Set the grid, and return sigma / alpha of each evaluation."""
        scheduler.set_timesteps(len(noisy))
        if not hasattr(scheduler, "sigmas"):
            return SIGMA_RATIO[scheduler.timesteps.numpy()]
        repeat = 2 if name.startswith("Heun") else 1
        sigmas = torch.tensor(grid, dtype=torch.float32)
        times = torch.from_numpy(noisy.copy())
        scheduler.sigmas = torch.cat(
            [sigmas[:1], sigmas[1:-1].repeat_interleave(repeat), sigmas[-1:]]
        )
        scheduler.timesteps = torch.cat([times[:1], times[1:].repeat_interleave(repeat)])
        scheduler.is_scale_input_called = True  # `mean` does it
        return scheduler.sigmas.tolist()[: len(scheduler.timesteps)]

    def run():
        points, ratios = start, prepare()
        for i, t in enumerate(scheduler.timesteps):
            alpha = 1.0 if scaled else float(1 + ratios[i] ** 2) ** -0.5
            sigma = alpha * float(ratios[i])
            eps = (points - alpha * mean(points, alpha, sigma)) / sigma
            given = {} if noise is None else {"variance_noise": torch.tensor(noise[i])}
            points = scheduler.step(eps, t, points, **given).prev_sample
        return (points / last).numpy()

    return run


def by_k_diffusion(method: Method, steps: int, x: np.ndarray, noise=None):
    """Return the call of a sampler, which works on x / alpha; `noise` as above."""
    assert method.k_diffusion is not None
    sampling = _k_sampling()
    torch, mean = torch_mean()
    name, options = method.k_diffusion
    grid = levels(method, steps)
    sigmas = torch.tensor(grid, dtype=torch.float32)
    first, last = np.sqrt(1 + grid[[0, -1]] ** 2)
    start = torch.tensor(x * first, dtype=torch.float32)

    def model(points, sigma):
        return mean(points, 1.0, float(sigma[0]))

    def run():
        more: dict[str, Any] = {"disable": True}
        if "_sde" in name:
            given = iter(() if noise is None else noise)
            more["noise_sampler"] = lambda *_: (
                torch.randn_like(start) if noise is None else torch.tensor(next(given))
            )
        points = getattr(sampling, name)(model, start, sigmas, **options, **more)
        return (points / last).numpy()

    return run


def peers(method: Method) -> dict:
    """Return the packages that are installed and have the method: name -> maker of the call."""
    found = {}
    if _has("torch", "diffusers") and method.diffusers:
        found["diffusers"] = by_diffusers
    if _has("torch", "k_diffusion", "torchsde") and method.k_diffusion:
        found["k_diffusion"] = by_k_diffusion
    return found


def compare(steps: int, repeats: int) -> None:
    """Measure all methods in `steps` steps, each in turn with the peers that have it."""
    x = np.asarray(jax.random.normal(jax.random.key(SEED), (NUM_PARTICLES, 2)))
    for name, method in METHODS.items():
        key, solver, makers = jax.random.key(SEED + 1), tableau(method, steps), peers(method)
        calls: dict = {
            "dfx": functools.partial(solvers.sample, solver, ORACLE, jnp.asarray(x), key)
        }
        calls |= {way: make(method, steps, x) for way, make in makers.items()}
        times = measure_in_turn(calls, repeats)
        for way, time in times.items():
            checks = quality(calls[way]())
            if way == "k_diffusion" or (way == "diffusers" and method.same):
                options = method.like_k if way == "k_diffusion" else {}
                checks |= gaps(method, steps, x, makers[way], options)
            base = times["dfx"]
            over = {f"over_dfx_{k}": time[f"{k}_s"] / base[f"{k}_s"] for k in ("wall", "cpu")}
            case = f"peers{steps} {name} {way}"
            report("solvers", case, cpus=num_cpus(), **time, **over, **checks)


def gaps(method: Method, steps: int, x, make, options: dict) -> dict[str, float]:
    """Return quantiles of the distance between the ends of dfx and a peer, with the same noise."""
    solver, noise = tableau(method, steps, **options), None
    if solver.stochastic:
        noise = np.asarray(jax.random.normal(jax.random.key(SEED + 2), (steps, *x.shape)))
    path = None if noise is None else jax.tree_util.Partial(lambda z, row: z[row], jnp.array(noise))
    end = solvers.sample(solver, ORACLE, jnp.asarray(x), noise=path)
    distances = np.linalg.norm(end - make(method, steps, x, noise)(), axis=1)
    quantiles = {"gap_median": 0.5, "gap_99": 0.99}
    return {name: float(np.quantile(distances, q)) for name, q in quantiles.items()}

"""The recipes by name, each as its paper states it.

Rates and schedules are for pictures in [-1, 1]; a paper that trains on [0, 1] has half the noise
for the same pictures. Nets are told numbers from 0 to 1000, which is what the time features of
`dfx.nets` are made for, where a paper's own net takes another multiple of the same quantity.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dfx import schedules
from dfx.errors import PersonError, call
from dfx.fields.convert import SIGMA_DATA
from dfx.losses import times
from dfx.recipes.recipe import Reached, Recipe, Sampler, Training
from dfx.schedules import (
    RectifiedLinear,
    VPLinear,
    ddpm_table,
    discrete_linear,
    discrete_zero_snr,
)

#: The noise levels of EDM's sampler, told to its nets as 0 and 1000.
LOWEST, HIGHEST = 0.002, 80.0
_EMA_9999 = math.log(0.5) / math.log(0.9999)  # steps in which a weight halves


@functools.cache
def ddpm() -> Recipe:
    """Return DDPM: 1000 levels with linear betas, eps, the simple loss."""
    schedule = discrete_linear(1000)
    return Recipe(
        "ddpm", schedule, "eps", times.discrete(schedule), "uniform",
        lambda level: level.t * 1000 - 1, None,
        Sampler("ddpm", "trailing", 1000, (("variance", "large"),)),
        Training(2e-4, 128, 5000 * 128, _EMA_9999 * 128, 800e3 * 128, clip=1.0),
        "Ho, Jain & Abbeel 2020, algorithms 1 and 2",
        (Reached("CIFAR-10", "FID", 3.17, "unconditional, 1000 steps, to the training set"),),
        "A U-Net of 36 M parameters with dropout 0.1, 800,000 steps of 128 pictures.",
    )  # fmt: skip


@functools.cache
def iddpm(prediction: str = "eps") -> Recipe:
    """Return improved DDPM: 4000 levels of the squared cosine, eps (or v), the simple loss.

    The paper's learned variances, and its bound on the likelihood that teaches them, are left out.
    """
    num_steps = 4000
    schedule = ddpm_table(cosine_betas(num_steps))
    return Recipe(
        "iddpm", schedule, prediction, times.discrete(schedule), "uniform",
        lambda level: (level.t * num_steps - 1) * (1000 / num_steps), None,
        Sampler("ddpm", "trailing", num_steps),
        Training(1e-4, 128, 0, _EMA_9999 * 128, 500e3 * 128),
        "Nichol & Dhariwal 2021, equation 17 and section 4",
        (
            Reached("CIFAR-10", "bits per dimension", 3.17, "this loss plus 0.001 of the bound"),
            Reached("CIFAR-10", "bits per dimension", 2.94, "the bound, times by importance"),
        ),
        "A U-Net of 52 M parameters with dropout 0.3, 500,000 steps of 128 pictures. Both "
        "numbers are of learned variances, left out here: the sampler has the small ones.",
    )  # fmt: skip


@functools.cache
def score_sde_vp() -> Recipe:
    """Return the score SDE, variance preserving, in continuous time; eps at weight 1.

    The paper's weight sigma^2 on the squared score error is 1 on that of eps.
    """
    schedule = VPLinear()
    return Recipe(
        "score_sde_vp", schedule, "eps", times.uniform(schedule, start=1e-5), "uniform",
        lambda level: level.t * 999, None,
        Sampler("euler_maruyama", "uniform", 1000),
        Training(2e-4, 128, 5000 * 128, _EMA_9999 * 128, 950e3 * 128, clip=1.0),
        "Song et al. 2021 (score SDE), equation 7, appendices C and D",
        (Reached("CIFAR-10", "FID", 2.41, "DDPM++ cont. deep, 1000 steps, no corrector"),),
        "DDPM++ (62 M parameters, deep 108 M), 950,000 steps of 128 pictures.",
    )  # fmt: skip


@functools.cache
def score_sde_ve() -> Recipe:
    """Return the score SDE, variance exploding, in continuous time; eps at weight 1.

    The paper has sigma from 0.01 to 50 for pictures in [0, 1]: twice that here.
    """
    schedule = schedules.make("ve", sigma_min=0.02, sigma_max=100.0)
    return Recipe(
        "score_sde_ve", schedule, "eps", times.uniform(schedule, start=1e-5), "uniform",
        lambda level: level.t * 1000, None,
        Sampler("reverse_diffusion", "uniform", 1000),
        Training(2e-4, 128, 5000 * 128, math.log(0.5) / math.log(0.999) * 128, 950e3 * 128, 1.0),
        "Song et al. 2021 (score SDE), equation 7, appendices C and D",
        (Reached("CIFAR-10", "FID", 2.20, "NCSN++ cont. deep, predictor and corrector"),),
        "NCSN++ (63 M parameters, deep 107 M), 950,000 steps of 128 pictures. The corrector, one "
        "Langevin step a level, is left out here.",
    )  # fmt: skip


@functools.cache
def edm(mean: float = -1.2, std: float = 1.2) -> Recipe:
    """Return EDM: sigma is the time, ln sigma ~ N(mean, std^2), weight 1 on the raw output F.

    That is lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 = 1 / c_out^2 on the
    denoiser; the input is scaled by c_in = 1 / sqrt(sigma^2 + sigma_data^2).
    """
    schedule = schedules.make("edm", sigma_max=HIGHEST)
    return Recipe(
        "edm", schedule, "edm", _log_normal(mean, std), "uniform",
        _log_sigma, lambda level: 1 / jnp.hypot(level.sigma, SIGMA_DATA * level.alpha),
        Sampler("heun", "karras", 18),
        Training(1e-3, 512, 10_000_000, 500_000, 200e6),
        "Karras et al. 2022, table 1 and algorithm 1",
        (
            Reached("CIFAR-10", "FID", 1.97, "unconditional, VP architecture, 35 evaluations"),
            Reached("CIFAR-10", "FID", 1.79, "conditional, VP architecture, 35 evaluations"),
            Reached("ImageNet 64", "FID", 1.36, "conditional, ADM, 511 evaluations with churn"),
        ),
        "DDPM++ of 56 M parameters with dropout 0.13 and augmentation, 200 M pictures in batches "
        "of 512; for ImageNet 64 ADM of 296 M, rate 1e-4, 2.5 G pictures in batches of 4096.",
    )  # fmt: skip


@functools.cache
def rectified_flow() -> Recipe:
    """Return rectified flow, the first round: the straight path, velocity, uniform times."""
    schedule = RectifiedLinear()
    return Recipe(
        "rectified_flow", schedule, "velocity", times.uniform(schedule), "uniform",
        lambda level: level.t * 999, None,
        Sampler("flow_rk4", "uniform", 32),
        Training(2e-4, 128, 5000 * 128, math.log(0.5) / math.log(0.999999) * 128, 600e3 * 128, 1.0),
        "Liu, Gong & Liu 2023 (rectified flow), equation 1; Lipman et al. 2023",
        (Reached("CIFAR-10", "FID", 2.58, "1-rectified flow, RK45, 127 evaluations"),),
        "DDPM++ of 62 M parameters with dropout 0.15, batches of 128. The paper's adaptive RK45 is "
        "RK4 at as many evaluations here.",
    )  # fmt: skip


@functools.cache
def sit(mean: float = 0.0, std: float = 1.0) -> Recipe:
    """Return SiT on the straight path: velocity, logit-normal times.

    The times are those of Esser et al. 2024; SiT itself draws them uniformly, as
    `rectified_flow`.
    """
    schedule = RectifiedLinear()
    return Recipe(
        "sit", schedule, "velocity", times.logit_normal(schedule, mean, std), "uniform",
        lambda level: level.t * 1000, None,
        Sampler("flow_heun", "uniform", 125),
        Training(1e-4, 256, 0, _EMA_9999 * 256, 7e6 * 256),
        "Ma et al. 2024 (SiT), sections 2 and 3; Esser et al. 2024, section 3.1 (times)",
        (Reached("ImageNet 256", "FID", 2.06, "SiT-XL/2, SDE sampler, guidance 1.5"),),
        "Latents of the Stable Diffusion encoder, a transformer of 675 M parameters (XL/2), "
        "7 M steps of 256.",
    )  # fmt: skip


@functools.cache
def v_zero_snr() -> Recipe:
    """Return v-prediction on Stable Diffusion's table, rescaled to end without any signal."""
    schedule = discrete_zero_snr()
    return Recipe(
        "v_zero_snr", schedule, "v", times.discrete(schedule), "uniform",
        lambda level: level.t * 1000 - 1, None,
        Sampler("ddim", "uniform", 50),
        Training(1e-4, 256, 0, _EMA_9999 * 256, 1e6 * 256),
        "Lin, Liu, Li & Yang 2023, algorithm 1 and sections 3.1 to 3.3; Salimans & Ho 2022 (v)",
        (),
        "The paper tunes Stable Diffusion 2.1 on text and pictures of its own; rate and batch here "
        "are SiT's, the length is a choice. Its rescaled guidance is left out.",
    )  # fmt: skip


#: Name -> factory with keyword arguments.
REGISTRY: dict[str, Callable[..., Recipe]] = {
    "ddpm": ddpm,
    "iddpm": iddpm,
    "score_sde_vp": score_sde_vp,
    "score_sde_ve": score_sde_ve,
    "edm": edm,
    "rectified_flow": rectified_flow,
    "sit": sit,
    "v_zero_snr": v_zero_snr,
}


def make(name: str, **options) -> Recipe:
    """Return the recipe of that name; the same object for the same options.

    >>> make("edm").sampler
    Sampler(solver='heun', grid='karras', num_steps=18, solver_options=(), grid_options=())

    Raises:
      PersonError: unknown name or option (the nearest valid one is named).
    """
    return call("recipe", name, REGISTRY, **options)


def cosine_betas(num_steps: int, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """Return the betas of the squared cosine, 1 - f(i + 1) / f(i), at most `largest`, (num_steps,).

    f(i) = cos^2(pi/2 (i / num_steps + offset) / (1 + offset)).

    Raises:
      PersonError: num_steps is below 1.

    Source: Nichol & Dhariwal 2021, equation 17.
    """
    if num_steps < 1:
        raise PersonError(f"cosine betas: num_steps is {num_steps}, allowed: 1 or more")
    i = np.arange(num_steps + 1)
    f = np.cos(np.pi / 2 * (i / num_steps + offset) / (1 + offset)) ** 2
    return np.minimum(1 - f[1:] / f[:-1], largest)


def _log_normal(mean: float, std: float) -> times.TimeSampler:
    """`times.log_normal_sigma` where sigma is the time: nothing has to be inverted."""
    times.check_normal(mean, std)
    normal = jax.scipy.special.ndtri
    return times.TimeSampler(lambda u: jnp.minimum(jnp.exp(mean + std * normal(u)), HIGHEST))


def _log_sigma(level):
    """1000 times ln(sigma / LOWEST) / ln(HIGHEST / LOWEST): EDM's c_noise, on the scale of step
    numbers."""
    return 1000 * jnp.log(level.sigma / level.alpha / LOWEST) / math.log(HIGHEST / LOWEST)

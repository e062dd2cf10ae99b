"""Part (b) of `guided_sampling`: the laws that guidance samples, and Langevin steps towards the law
that it is said to sample, p_u (p_c / p_u)^w.

The score s_u + w (s_c - s_u) of that law is exact without noise, and at every level it is the score
of p_u,t (p_c,t / p_u,t)^w, whose limit it is: so Langevin steps at the last level, or at all of
them, draw the samples to it.

Source: Bradley & Nakkiran 2024 (classifier-free guidance is a predictor-corrector).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx import schedules, solvers
from experiments.guided_sampling import laws

#: Where densities are kept: the laws of one dimension, at every weight, lie well within.
LINE = np.linspace(-6.0, 8.0, 14_001)

#: The stochastic sampler starts from sigma / alpha = 100, where N(0, sigma^2) is wrong by 1e-4, and
#: all fixed grids end at 0.01.
SCHEDULE = schedules.make("edm", sigma_max=100.0)
LAST = 0.01

#: The corrector of the last level: sigma = 0.02, where the law is wider by 0.1 %, and a step of
#: 0.005, an error of 0.6 % of the deviation for a law of variance 0.2.
LAST_LEVEL, LANGEVIN_STEP = 0.02, 0.005

#: snr of the corrector at every level: a step of 0.08 sigma^2.
LEVEL_SNR = 0.2


def run_tilt(config, run) -> None:
    """Solve the two modes and the Gaussian pair by ODE and SDE, and correct the first."""
    run.arrays("tilted", lambda: tilted(config))
    run.arrays("ode", lambda: ode(config))
    run.arrays("pair", lambda: pair(config))
    run.arrays("sde", lambda: sde(config, run))
    run.arrays("corrected", lambda: corrected(config, run))
    run.arrays("relaxed", lambda: relaxed(config))


def tilted(config) -> dict[str, np.ndarray]:
    """Return the densities of the tilted laws on `LINE`, shape (weights, m), and of the class."""
    toward, away = laws.two_modes()
    rows = [laws.tilted_density(toward, away, weight, LINE) for weight in config.tilt.weights]
    class_density = laws.tilted_density(toward, away, 1.0, LINE)
    return {"x": LINE, "density": np.stack(rows), "class": class_density}


def ode(config) -> dict[str, np.ndarray]:
    """Return the guided flow on the noise grid z, shape (weights, m): from infinite noise (`ends`)
    and from the config's finite level (`finite`)."""
    z, law = laws.noise_grid(config.tilt.noise_points), laws.two_modes()
    ends = [
        [laws.flow(laws.guided_field(*law, weight), z, start) for weight in config.tilt.weights]
        for start in (np.inf, config.tilt.start_noise)
    ]
    return {"z": z, "ends": np.stack(ends[0]), "finite": np.stack(ends[1])}


def pair(config) -> dict[str, np.ndarray]:
    """Return the Gaussian pair: ends of its flow, samples of its SDE, and the three closed forms.

    `ode` (weights, m), `sde` (weights, seeds, n); `exact` (kinds, dense weights, 2) holds mean and
    variance at `dense`, and `exact_at` (kinds, weights, 2) at the weights that are sampled.
    """
    settings, z = config.pair, laws.noise_grid(config.tilt.noise_points)
    numbers = settings.mean, settings.variance, settings.wide
    law = laws.gaussian_pair(*numbers)
    kinds = laws.pair_ode, laws.pair_sde, laws.pair_tilted
    dense = np.linspace(1.0, max(settings.weights), 25)
    exact, exact_at = (
        np.asarray([[kind(w, *numbers) for w in weights] for kind in kinds])
        for weights in (dense, settings.weights)
    )
    return {
        "z": z,
        "ode": np.stack([laws.flow(laws.guided_field(*law, w), z) for w in settings.weights]),
        "sde": np.stack([sample_sde(config, laws.guided_field(*law, w)) for w in settings.weights]),
        "dense": dense,
        "exact": exact,
        "exact_at": exact_at,
    }


def sde(config, run) -> dict[str, np.ndarray]:
    """Return samples of the guided SDE on the two modes, `x` (weights, seeds, n)."""
    law, rows = laws.two_modes(), []
    with run.progress(len(config.tilt.weights), "sde", unit="weight") as bar:
        for weight in config.tilt.weights:
            rows.append(sample_sde(config, laws.guided_field(*law, weight)))
            bar.update(1)
    return {"x": np.stack(rows)}


def sample_sde(config, field) -> np.ndarray:
    """Return samples of the reverse SDE of a field in one dimension, shape (seeds, n).

    By SDE-DPM-Solver++(2M), weak order 2, on equal steps of log-SNR.
    """
    grid = log_grid(SCHEDULE.end_time, config.tilt.sde_steps)
    tableau = solvers.make("sde_dpm_solver_pp_2m", SCHEDULE, grid)
    start, noise = jax.random.split(jax.random.key(config.seed))
    x = solvers.prior(start, SCHEDULE, (config.num_seeds * config.tilt.num_samples, 1))
    return np.asarray(solvers.sample(tableau, field, x, noise)).reshape(config.num_seeds, -1)


def log_grid(first: float, steps: int) -> np.ndarray:
    """Return the times (noise levels) of equal steps in log-SNR from `first` to `LAST`."""
    return schedules.grids.uniform_log_snr(SCHEDULE, steps, start=first, end=LAST)


def corrected(config, run) -> dict[str, np.ndarray]:
    """Return samples of DDIM with Langevin steps on the tilted score at every level, `x`
    (corrections, seeds, n), at the config's weight."""
    settings = config.corrector
    field = laws.guided_field(*laws.two_modes(), settings.weight)
    first = config.tilt.start_noise
    tableau = solvers.ddim(SCHEDULE, log_grid(first, settings.levels))
    start, noise = jax.random.split(jax.random.key(config.seed))
    shape = config.num_seeds * config.tilt.num_samples, 1
    x, rows = solvers.prior(start, SCHEDULE, shape, t=first), []
    with run.progress(len(settings.corrections), "corrected", unit="run") as bar:
        for count in settings.corrections:
            end = solvers.sample_with_corrector(
                tableau, field, x, noise, num_corrections=count, snr=LEVEL_SNR, norm="level"
            )
            rows.append(np.asarray(end).reshape(config.num_seeds, -1))
            bar.update(1)
    return {"x": np.stack(rows)}


def relaxed(config) -> dict[str, np.ndarray]:
    """Return samples of the ODE after Langevin steps at the last level, `x` (times, seeds, n), and
    the Langevin `times`, at the config's weight."""
    settings = config.corrector
    field = laws.guided_field(*laws.two_modes(), settings.weight)
    z, shape = laws.noise_grid(config.tilt.noise_points), (config.num_seeds, -1)
    start, noise = jax.random.split(jax.random.key(config.seed + 1))
    draws = np.asarray(jax.random.normal(start, (config.num_seeds * config.tilt.num_samples,)))
    ends = laws.flow(field, z, config.tilt.start_noise)
    x = jnp.asarray(np.interp(draws, z, ends), jnp.float32)[:, None]  # the flow is monotone
    steps = [0, *(2**i for i in range(settings.doublings))]
    rows = [x]
    for i, more in enumerate(np.diff(steps)):
        rows.append(relax(field, rows[-1], jax.random.fold_in(noise, i), int(more)))
    ends = np.stack([np.asarray(row).reshape(shape) for row in rows])
    return {"x": ends, "times": LANGEVIN_STEP * np.asarray(steps)}


@jax.jit
def relax(field, x, key, steps):
    """Return x after so many Langevin steps of size LANGEVIN_STEP at the last level."""
    level = SCHEDULE.at(LAST_LEVEL)
    snr = np.sqrt(LANGEVIN_STEP / 2) / LAST_LEVEL  # the library's step is 2 (snr sigma)^2

    def step(number, x):
        z = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
        return solvers.langevin_step(field, x, level, z, snr, norm="level")

    return jax.lax.fori_loop(0, steps, step, x)

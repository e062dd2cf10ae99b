"""What holds without any net: closed forms, power-law Gaussians and clouds of points, in float64.

Kept: `flow_errors` (the closed form against an adaptive solver), `power_paths` (shares of principal
components and R^2 of the rotation), `power_modes` (when modes settle) and `far_field` (1 - EV of
clouds of points, far away).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics, evolution, fields, metrics, schedules, solvers, targets
from dfx.schedules import grids

#: The three families of claim 1: variance exploding, variance preserving, and a general affine one.
SCHEDULES = {
    "edm": schedules.make("edm", sigma_max=80.0),
    "vp_linear": schedules.make("vp_linear"),
    "rectified_linear": schedules.make("rectified_linear"),
}

#: sigma / alpha between which the closed form is compared with the solver: integrals of clean data
#: would end with an approximate step.
FROM_NOISE, TO_NOISE = 50.0, 0.01

#: Points of a path on VP, with equal steps of t; steps of the EDM grid.
VP_FRAMES, EDM_STEPS = 101, 18

#: Noise levels at which the clouds are seen, in units of about the size of the cloud.
FAR_LEVELS = (2.5, 5.0, 10.0, 20.0, 40.0)


def exact(config, run) -> None:
    """Compute all parts."""
    for name, compute in {
        "flow_errors": flow_errors,
        "power_paths": power_paths,
        "power_modes": power_modes,
        "far_field": far_field,
    }.items():

        def in_float64(compute=compute):
            with jax.enable_x64(True):
                return compute(config)

        run.arrays(name, in_float64)


def flow_errors(config) -> dict[str, np.ndarray]:
    """Return the largest relative error of the closed form on each schedule, (schedules,): that of
    a point over the largest point."""
    law = targets.power_spectrum(8, 1.5, 0.25, mean=np.linspace(-1, 1, 8))
    flow, field = evolution.gaussian_flow(law), fields.oracle(law)
    noise = jax.random.normal(jax.random.key(config.seed), (8, 8), jnp.float64)
    errors = []
    for schedule in SCHEDULES.values():
        times = schedules.t_of_log_snr(schedule, -2 * np.log([FROM_NOISE, TO_NOISE]))
        start, end = (schedule.at(float(t)) for t in times)
        x = start.alpha * law.means + np.hypot(start.alpha, start.sigma) * noise
        path = solvers.sample_adaptive(
            schedule, field, x, float(times[0]), float(times[1]), rtol=1e-12, atol=1e-13,
            method="dopri8",
        )  # fmt: skip
        moved = flow.move(x, start, end)
        errors.append(float(jnp.max(jnp.abs(path.state - moved)) / jnp.max(jnp.abs(moved))))
    return {"names": np.asarray(list(SCHEDULES)), "errors": np.asarray(errors)}


def power_paths(config) -> dict[str, np.ndarray]:
    """Return numbers of paths of power-law Gaussians, exponents first.

    vp_shares, edm_shares: cumulative shares of the first 3 principal components, (exponents, n, 3);
    rotation: uncentred R^2 of a_t x_0 + s_t e on VP, (exponents, n).
    """
    settings, vp = config.exact, SCHEDULES["vp_linear"]
    times = np.linspace(vp.end_time, 0.0, VP_FRAMES)
    levels = vp.at(times)
    grid = grids.karras(SCHEDULES["edm"], EDM_STEPS)
    rows: dict[str, list] = {"vp_shares": [], "edm_shares": [], "rotation": []}
    for i, exponent in enumerate(settings.exponents):
        flow = evolution.gaussian_flow(targets.power_spectrum(settings.dim, exponent, 0.25))
        key = jax.random.fold_in(jax.random.key(config.seed + 2), i)
        noise = jax.random.normal(key, (settings.num_paths, settings.dim), jnp.float64)
        path = closed_path(flow, vp, noise, times)
        rows["vp_shares"].append(metrics.principal_shares(path, 3))
        rows["rotation"].append(metrics.rotation_r2(path, levels.alpha, levels.sigma))
        path = closed_path(flow, SCHEDULES["edm"], 80.0 * noise, grid)
        rows["edm_shares"].append(metrics.principal_shares(path, 3))
    return {name: np.stack(row) for name, row in rows.items()}


def closed_path(flow, schedule, x, times) -> np.ndarray:
    """Return the closed form through x at times[0] as frames, (n, frames, d)."""
    start = schedule.at(float(times[0]))
    return np.moveaxis(np.asarray(flow.move(x, start, schedule.at(times, 3))), 0, 1)


def power_modes(config) -> dict[str, np.ndarray]:
    """Return the variances of a power law and the noise levels at which the modes of x0_hat along
    one path have half their final value, both (d,)."""
    law = targets.power_spectrum(min(config.exact.dim, 64), config.exact.exponents[0], 0.25)
    flow, edm = evolution.gaussian_flow(law), SCHEDULES["edm"]
    sigma = np.geomspace(80.0, 1e-3, 2001)
    outlines = flow.outline(np.full((1, law.dim), 80.0), edm.at(80.0), edm.at(sigma, 3))
    grown = np.asarray(outlines)[:, 0]
    return {"variance": law.spectrum[0], "half": half_levels(sigma, grown / grown[-1])}


def half_levels(sigma: np.ndarray, grown: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Return the noise levels at which growing modes last cross a share, interpolated in log sigma.

    Args:
      sigma: falling, shape (frames,).
      grown: the share that each mode has reached, shape (frames, modes).

    Returns:
      Shape (modes,); nan for a mode that starts above the share, or ends below it.
    """
    below = grown < share
    frame = len(sigma) - 1 - np.argmax(below[::-1], axis=0)  # the last one below
    ok = below.any(0) & (frame < len(sigma) - 1) & below[0]
    frame = np.where(ok, frame, 0)
    modes = np.arange(grown.shape[1])
    before, after = grown[frame, modes], grown[frame + 1, modes]
    weight = (share - before) / np.where(after == before, 1.0, after - before)
    log = np.log(sigma)
    return np.where(ok, np.exp(log[frame] + weight * (log[frame + 1] - log[frame])), np.nan)


def far_field(config) -> dict[str, np.ndarray]:
    """Return the mean 1 - EV of scores (clouds, levels): the Gaussian of a skewed cloud and of a
    symmetric one, and the mean alone of the skewed one."""
    key_x, key_y = jax.random.split(jax.random.key(config.seed + 3))
    some = np.asarray(jax.random.exponential(key_x, (12, 3), jnp.float64)) - 1.0
    clouds = {"skewed": some, "symmetric": np.concatenate([some, -some])}
    noise = jax.random.normal(key_y, (config.exact.num_points, 3), jnp.float64)
    rows = []
    for name, model in (("skewed", "gaussian"), ("symmetric", "gaussian"), ("skewed", "mean")):
        points = clouds[name]
        mean, covariance = points.mean(0), np.cov(points.T, bias=True)
        law = targets.Mixture.gaussian(mean, covariance if model == "gaussian" else np.zeros(3))
        cloud = fields.oracle(targets.Mixture.isotropic(points, 0.0))
        row = []
        for sigma in FAR_LEVELS:
            level = SCHEDULES["edm"].at(sigma)
            x = mean + sigma * noise
            gap = diagnostics.unexplained(cloud, fields.oracle(law), x, level, chunk=5000)
            row.append(float(jnp.mean(gap.score)))
        rows.append(row)
    return {"levels": np.asarray(FAR_LEVELS), "unexplained": np.asarray(rows)}

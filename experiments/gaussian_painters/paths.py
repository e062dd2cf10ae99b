"""Paths of trained nets from equal noise beside the closed form of the Gaussian.

Kept: `paths` (principal components, rotation, growth of the modes of x0_hat), `paths_shown` (frames
of a few), `ends` (samples by net, Gaussian, mixture and delta mixture) and `kicks` (what becomes of
a kick along a principal component).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx import evolution, fields, metrics, schedules, solvers
from dfx.schedules import grids
from experiments.gaussian_painters import nets as setup
from experiments.gaussian_painters.exact import EDM_STEPS, SCHEDULES
from experiments.gaussian_painters.fields import finest


def measure_paths(config, run, net, params, laws, pictures) -> None:
    """Compute all parts."""
    spectrum = run.arrays("spectrum", dict)
    run.arrays("paths", lambda: paths(config, net, params, laws, spectrum))
    run.arrays("paths_shown", lambda: paths_shown(config, net, params, laws, pictures.shape))
    run.arrays("ends", lambda: ends(config, net, params, laws))
    run.arrays("kicks", lambda: kicks(config, run, net, params, laws, spectrum))


def vp_grid(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise levels for equal steps of t on linear VP from sigma / alpha = 80 to clean data,
    and the alpha there: alpha times the path at the levels is the path on VP."""
    vp = SCHEDULES["vp_linear"]
    last = float(schedules.t_of_log_snr(vp, -2 * np.log(setup.HIGHEST)))
    levels = vp.at(np.linspace(last, 0.0, num_steps + 1))
    sigma = np.asarray(levels.sigma / levels.alpha, np.float64)
    sigma[0] = setup.HIGHEST  # not beyond it by rounding
    return sigma, np.asarray(levels.alpha, np.float64)


def follow(field, x, sigma) -> tuple[np.ndarray, np.ndarray]:
    """Return x and x0_hat along Heun's path, (n, frames, d), the frames those of the levels; the
    last x0_hat is the sample."""
    tableau = solvers.heun(setup.SCHEDULE, sigma)
    end, (seen, outlines) = solvers.sample(tableau, field, x, observe=solvers.trajectory(2))
    end = np.asarray(end)[:, None]
    return (np.concatenate([np.asarray(seen), end], 1),
            np.concatenate([np.asarray(outlines), end], 1))  # fmt: skip


def starts(config, stage: int, seed: int, count: int, dim: int) -> jax.Array:
    """Return the noise of a seed at the highest level, (n, d)."""
    return setup.HIGHEST * jax.random.normal(setup.seed_keys(config, stage)[seed], (count, dim))


def paths(config, net, params, laws, spectrum) -> dict[str, np.ndarray]:
    """Return numbers of the paths, seeds first, fields (net, Gaussian, finest mixture) second.

    shares: of principal components on VP, (seeds, 3, n, 3); edm_shares: of the net, on the EDM
    grid; rotation: R^2, (seeds, 3, n); outlines: modes of x0_hat, (seeds, 3, n, frames, modes).
    """
    settings = config.paths
    sigma, alpha = vp_grid(settings.num_steps)
    noise = alpha * sigma
    edm = grids.karras(setup.SCHEDULE, min(EDM_STEPS, settings.num_steps))
    basis = spectrum["basis"][:, : settings.num_modes]
    flow = evolution.gaussian_flow(laws["gaussian"])
    mixture = fields.oracle(laws[finest(config)])
    rows: dict[str, list] = {"shares": [], "edm_shares": [], "rotation": [], "outlines": []}
    for seed in range(config.num_seeds):
        x = starts(config, 1, seed, settings.num_paths, len(spectrum["mean"]))
        field = setup.net_field(net, params, seed)
        pairs = [follow(field, x, sigma), closed(flow, x, sigma), follow(mixture, x, sigma)]
        on_vp = [alpha[:, None] * path for path, _ in pairs]
        rows["shares"].append([metrics.principal_shares(path, 3) for path in on_vp])
        rows["rotation"].append([metrics.rotation_r2(path, alpha, noise) for path in on_vp])
        rows["outlines"].append([(outline - spectrum["mean"]) @ basis for _, outline in pairs])
        rows["edm_shares"].append(metrics.principal_shares(follow(field, x, edm)[0], 3))
    return {name: np.asarray(row) for name, row in rows.items()} | {"sigma": sigma, "alpha": alpha}


def closed(flow, x, sigma) -> tuple[np.ndarray, np.ndarray]:
    """Return x and x0_hat along the closed form, as `follow` does."""
    levels = setup.SCHEDULE.at(np.asarray(sigma), 3)
    start = setup.SCHEDULE.at(float(sigma[0]))
    path, outline = flow.move(x, start, levels), flow.outline(x, start, levels)
    return np.moveaxis(np.asarray(path), 0, 1), np.moveaxis(np.asarray(outline), 0, 1)


def paths_shown(config, net, params, laws, shape) -> dict[str, np.ndarray]:
    """Return frames of a few paths of the first net and of the Gaussian: x over its root mean
    square size and x0_hat, (2, n, frames, *picture), at noise levels (frames,).

    Frames on the EDM grid; x is divided by sqrt(sigma^2 + 1/4).
    """
    sigma = grids.karras(setup.SCHEDULE, min(EDM_STEPS, config.paths.num_steps))
    x = starts(config, 1, 0, config.paths.num_paths, int(np.prod(shape)))
    # All paths again, so that the program is that of `paths`.
    pairs = [follow(setup.net_field(net, params, 0), x, sigma)]
    pairs.append(closed(evolution.gaussian_flow(laws["gaussian"]), x, sigma))
    count = config.paths.num_shown
    size = np.sqrt(sigma**2 + 0.25)[:, None]
    xs, outlines = (np.stack([pair[i][:count] for pair in pairs]) for i in range(2))
    frames = (2, count, len(sigma), *shape)
    return {
        "x": (xs / size).reshape(frames).astype(np.float32),
        "outline": outlines.reshape(frames).astype(np.float32),
        "sigma": sigma,
    }


def ends(config, net, params, laws) -> dict[str, np.ndarray]:
    """Return samples from equal noise, (fields, seeds, n, d), by the net, the Gaussian in closed
    form, the finest mixture and the delta mixture."""
    settings = config.samples
    tableau = solvers.heun(setup.SCHEDULE, grids.karras(setup.SCHEDULE, settings.num_steps))
    flow = evolution.gaussian_flow(laws["gaussian"])
    others = [fields.oracle(laws[name]) for name in (finest(config), "delta")]
    start, rows = setup.SCHEDULE.at(setup.HIGHEST), []
    for seed in range(config.num_seeds):
        x = starts(config, 2, seed, settings.num_samples, laws["gaussian"].dim)
        first = solvers.sample(tableau, setup.net_field(net, params, seed), x)
        linear = flow.move(x, start, schedules.CLEAN)
        rows.append([first, linear, *(solvers.sample(tableau, field, x) for field in others)])
    stacked = np.asarray(rows, np.float32).swapaxes(0, 1)
    names = np.asarray(["net", "gaussian", finest(config), "delta"])
    start_modes = [
        np.asarray(starts(config, 2, seed, settings.num_samples, laws["gaussian"].dim))
        for seed in range(config.num_seeds)
    ]
    return {"x": stacked, "names": names, "noise": np.stack(start_modes)}


def kicks(config, run, net, params, laws, spectrum) -> dict[str, np.ndarray]:
    """Return what becomes of a kick, per unit of the kick, by seed, for the net and the finest
    mixture.

    along: the mean change of the sample along the component that was kicked, (seeds, 2, levels,
    modes); whole: the mean length of its change over the length of a kick in a random direction,
    (seeds, 2, levels); law, whole_law: of the Gaussian, (levels, modes) and (levels,).
    Central differences of kicks of +- size sigma, which is the length of a random kick, too, per
    coordinate.
    """
    settings, dim = config.kicks, len(spectrum["mean"])
    modes = np.asarray(settings.modes) - 1
    directions = spectrum["basis"][:, modes].T.astype(np.float32)
    found = []
    with run.progress(config.num_seeds * len(settings.levels), "kicks", unit="level") as bar:
        for seed in range(config.num_seeds):
            both = [setup.net_field(net, params, seed), fields.oracle(laws[finest(config)])]
            x = starts(config, 3, seed, settings.num_points, dim)
            rows = []
            for i, sigma in enumerate(settings.levels):
                key = jax.random.fold_in(setup.seed_keys(config, 4)[seed], i)
                random = np.asarray(jax.random.normal(key, (settings.num_points, dim)))
                rows.append([respond(field, x, sigma, settings.size, directions, random)
                             for field in both])  # fmt: skip
                bar.update(1)
            found.append(rows)
    numbers = np.asarray(found, np.float64).swapaxes(1, 2)
    levels = np.asarray(settings.levels)[:, None]
    variance = spectrum["variance"]
    gains = variance / (variance + levels**2)
    return {
        "along": numbers[..., :-1],
        "whole": numbers[..., -1],
        "law": np.sqrt(gains[:, modes]),
        "whole_law": np.sqrt(gains.mean(axis=1)),
        "levels": levels[:, 0],
        "variance": variance[modes],
    }


#: Steps to a kick, and from there to the data: equal for all levels, so that one program does all.
STEPS = 18


def respond(field, x, sigma: float, size: float, directions, random) -> np.ndarray:
    """Return the responses to unit kicks at a noise level, (modes + 1,), the last to random ones.

    Args:
      x: at the highest level, shape (n, d).
      directions: shape (modes, d), unit vectors.
      random: standard normal, shape (n, d).
    """
    to_sigma = np.geomspace(setup.HIGHEST, sigma, STEPS + 1)
    x = solvers.sample(solvers.heun(setup.SCHEDULE, to_sigma), field, x)
    n, dim = x.shape
    kicks = np.concatenate([np.repeat(directions[:, None], n, 1), random[None]])
    kicked = jnp.concatenate([x + sign * size * sigma * kicks for sign in (1, -1)])
    grid = grids.karras(setup.SCHEDULE, STEPS, sigma_max=sigma)
    tableau = solvers.heun(setup.SCHEDULE, grid)
    end = np.asarray(solvers.sample(tableau, field, kicked.reshape(-1, dim)), np.float64)
    plus, minus = end.reshape(2, len(kicks), n, dim)
    change = (plus - minus) / (2 * size * sigma)
    along = np.einsum("mnd,md->m", change[:-1], directions) / n
    whole = np.sqrt(np.sum(change[-1] ** 2) / np.sum(random**2))
    return np.append(along, whole)

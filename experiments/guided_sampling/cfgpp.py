"""Part (c) of `guided_sampling`: CFG++ beside classifier-free guidance with the weights that it
amounts to.

With rho = sigma / alpha, a CFG++ step from s to t with scale lam is a DDIM step of classifier-free
guidance with the weight w = lam rho_s / (rho_s - rho_t).

Source: Chung et al. 2024 (CFG++), algorithms 1 and 2 and their code.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dfx import fields, schedules, solvers
from experiments.guided_sampling import laws

#: The authors' number of steps.
STEPS = 50


def stable_diffusion() -> schedules.DiscreteVP:
    """Return the table of Stable Diffusion, sqrt(beta) from sqrt(0.00085) to sqrt(0.012)."""
    return schedules.ddpm_table(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


def levels(schedule, steps: int):
    """Return the levels of the sampler of Stable Diffusion, with clean data at the end, entries of
    shape (steps + 1,)."""
    return schedule.at(schedules.grids.leading(schedule, steps))


def effective_weights(level) -> np.ndarray:
    """Return the weight of each step for lam = 1, rho_s / (rho_s - rho_t), shape (steps,)."""
    rho = level.sigma / level.alpha
    return rho[:-1] / (rho[:-1] - rho[1:])


def run_cfgpp(config, run) -> None:
    """Measure the identity, the missing limit and the round trip."""
    run.arrays("cfgpp_identity", lambda: identity(config))
    run.arrays("cfgpp_limit", lambda: limit(config))
    run.arrays("round_trip", lambda: round_trip(config))


def identity(config) -> dict[str, np.ndarray]:
    """Return the ends (n, 2) of CFG++ and of CFG by DDIM with the weights above, on the quadrants,
    and the mean of those weights for the numbers of steps of the config."""
    schedule, law, scale = stable_diffusion(), laws.quadrants(), config.cfgpp.scale
    grid = schedules.grids.leading(schedule, STEPS)
    level = schedule.at(grid)
    with jax.enable_x64(True):
        toward, away = fields.oracle(law.one(0)), fields.oracle(law.law)
        x = np.random.default_rng(config.seed).normal(size=(500, 2))
        plus = fields.cfg_plus_plus(toward, away, scale)
        steps = StepWeight(level.t[:-1], scale * effective_weights(level))
        ends = {
            "plus": solvers.sample(solvers.cfgpp(schedule, grid), plus, x),
            "free": solvers.sample(
                solvers.ddim(schedule, grid), fields.classifier_free(toward, away, steps), x
            ),
        }
    counts = config.cfgpp.steps
    means = [effective_weights(levels(schedule, n)).mean() for n in counts]
    return {name: np.asarray(end) for name, end in ends.items()} | {
        "mean_weight": np.asarray(means)
    }


@jax.tree_util.register_pytree_node_class
class StepWeight:
    """A weight for each step of a grid, as a function of the level: that of the nearest time."""

    def __init__(self, times, weights):
        self.times, self.weights = times, weights

    def __call__(self, level):
        return jnp.asarray(self.weights)[jnp.argmin(jnp.abs(self.times - level.t))]

    def tree_flatten(self):
        return (self.times, self.weights), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def limit(config) -> dict[str, np.ndarray]:
    """Return the ends on the two modes against the number of steps: `plus` (steps, m) of CFG++ and
    `free` of CFG by DDIM at `weight`, the mean weight that CFG++ amounts to at STEPS."""
    settings, schedule = config.cfgpp, stable_diffusion()
    toward, away = map(fields.oracle, laws.two_modes())
    z = laws.noise_grid(config.tilt.noise_points)
    middle = effective_weights(levels(schedule, STEPS)).mean()
    weight = settings.scale * middle
    found: dict[str, list] = {"plus": [], "free": []}
    with jax.enable_x64(True):
        plus = fields.cfg_plus_plus(toward, away, settings.scale)
        free = fields.classifier_free(toward, away, weight)
        grids = [schedules.grids.leading(schedule, n) for n in settings.steps]
        for name, field, build in (("plus", plus, solvers.cfgpp), ("free", free, solvers.ddim)):
            # Padded to one length, they are one program.
            tableaus = solvers.pad([build(schedule, grid) for grid in grids])
            for grid, tableau in zip(grids, tableaus):
                x = schedule.at(grid[0]).sigma * z[:, None]
                found[name].append(np.asarray(solvers.sample(tableau, field, x))[:, 0])
    return {name: np.stack(rows) for name, rows in found.items()} | {
        "z": z,
        "weight": np.asarray(weight),
    }


def round_trip(config) -> dict[str, np.ndarray]:
    """Return how far data of the quadrants are from themselves after inversion and sampling.

    Distances: `free` (steps, weights, seeds, n) of CFG, `plus` (steps, scales, seeds, n) of CFG++,
    and `matched`, of its shape, of CFG at the mean weights that the scales amount to, which are
    `effective` (steps, scales).
    """
    settings, schedule, law = config.cfgpp, stable_diffusion(), laws.quadrants()
    every = [levels(schedule, steps) for steps in settings.round_trip_steps]
    effective = np.outer([effective_weights(level).mean() for level in every], settings.scales)
    with jax.enable_x64(True):
        x = class_samples(config, law)

        def errors(weights, plus):
            """Of a row of weights for each number of steps."""
            rows = [
                [_there_and_back(law, x, level, float(weight), plus) for weight in row]
                for level, row in zip(every, weights)
            ]
            found = np.asarray(rows)  # (steps, weights, classes, seeds * n)
            found = np.moveaxis(found.reshape(*found.shape[:3], config.num_seeds, -1), 3, 2)
            return found.reshape(*found.shape[:3], -1)

        return {
            "free": errors([settings.weights] * len(every), False),
            "plus": errors([settings.scales] * len(every), True),
            "matched": errors(effective, False),
            "effective": effective,
        }


def class_samples(config, law) -> np.ndarray:
    """Return data of every class, shape (classes, seeds * n, d), float64."""
    n = config.num_seeds * config.cfgpp.num_samples
    keys = jax.random.split(jax.random.key(config.seed), law.num_classes)
    draw = jax.jit(jax.vmap(lambda classes, key: classes.sample(key, n, jnp.float64)))
    return np.asarray(draw(law.classes, keys))


@jax.jit
def _there_and_back(law, x, level, weight, plus):
    def one(toward, x):
        def eps(x, level):
            both = (fields.as_prediction(fields.oracle(f), "eps") for f in (law.law, toward))
            return tuple(predict(x, level) for predict in both)

        def chain(step, x, steps):
            return jax.lax.scan(lambda x, s: (step(eps, x, s, weight, plus), None), x, steps)[0]

        noise = chain(inversion_step, x, reversed_pairs(level))
        return jnp.linalg.norm(chain(back_step, noise, pairs(level)) - x, axis=-1)

    return jax.vmap(one)(law.classes, x)


def pairs(level):
    """Return the steps from the noise to the data, as two stacks of levels (from, to)."""
    pick = lambda rows: jax.tree.map(lambda a: a[rows], level)  # noqa: E731
    return pick(slice(None, -1)), pick(slice(1, None))


def reversed_pairs(level):
    """Return the same steps from the data to the noise; the levels stay (noisy, less noisy)."""
    return jax.tree.map(lambda a: a[::-1], pairs(level))


def back_step(eps, x, pair, weight, plus):
    """A step from the noisy level t to the other, s: x0_hat is guided; the noise that is put back
    is guided too (DDIM with classifier-free guidance), or plain (`plus`: CFG++)."""
    t, s = pair
    guided, plain = _guided(eps, x, t, weight)
    return s.alpha * (x - t.sigma * guided) / t.alpha + s.sigma * jnp.where(plus, plain, guided)


def inversion_step(eps, x, pair, weight, plus):
    """The mirror of `back_step`, with both noises taken at the point it starts from."""
    t, s = pair
    guided, plain = _guided(eps, x, t, weight)
    return t.alpha * (x - s.sigma * jnp.where(plus, plain, guided)) / s.alpha + t.sigma * guided


def _guided(eps, x, level, weight):
    plain, toward = eps(x, level)
    return plain + weight * (toward - plain), plain

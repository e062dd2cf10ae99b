"""Which part of a trained net's error enters: the free nets of the toy, split and sampled.

The score error e = s_theta - s is projected on gradients in L^2(p_t), e = grad eta + r, by least
squares on random waves, level by level; s is a gradient, so grad phi = s + grad eta. Then s_theta,
grad phi and s are sampled from the same starts and their laws compared by quadrature. Kept:

    projection          squares of e and of its parts, (m, levels), on draws the fit has not seen
    projection_samples  W_2 to the truth (fields, m), KL(p | q) at the last level (fields, m)
    net_rates           d/dt KL(p_t | q_t) of each net, measured and predicted (`rates`)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dfx import diagnostics
from dfx.pytree import pytree
from dfx.schedules import Level
from experiments import perturbed
from experiments import score_or_flow_nets as toy
from experiments.score_or_flow_errors import level_grid
from experiments.score_or_flow_identities import SCHEDULE, make_test
from experiments.score_or_flow_rates import divergence_from, rates, time_of

#: Lengths over which the potentials of the error vary: from half a mode to the ring.
WIDTHS = (0.1, 0.3, 1.0)

#: What is sampled: the net, the gradient part of it, the exact score.
FIELDS = ("net", "gradient", "exact")


@pytree
@dataclasses.dataclass(frozen=True)
class Fitted:
    """The error grad eta, (x, level) -> shape of x, in units of a score; made by `fit_levels`.

    Attributes:
      features: psi, (n, d) -> (n, features).
      log_snr: of the levels, rising.
      coefficients: of sigma eta at each level, (levels, features); linear in log-SNR between.
    """

    features: Callable
    log_snr: Any
    coefficients: Any
    pointwise = True

    def __call__(self, x, level: Level):
        at = jnp.asarray(2 * jnp.log(level.alpha / level.sigma), x.dtype)
        nodes, table = (jnp.asarray(a, x.dtype) for a in (self.log_snr, self.coefficients))
        c = jax.vmap(jnp.interp, (None, None, 1))(at.reshape(()), nodes, table)
        slope = jax.grad(lambda x: jnp.sum(self.features(x) @ c))(x)
        return slope / jnp.asarray(level.sigma, x.dtype)


def waves(config) -> Callable:
    """Return the features: linear and quadratic ones, and random waves of three lengths."""
    count = config.toy.num_features // len(WIDTHS)
    keys = jax.random.split(jax.random.key(config.seed + 30), len(WIDTHS))
    families = [diagnostics.fourier(key, 2, count, width) for key, width in zip(keys, WIDTHS)]
    return diagnostics.joined(diagnostics.quadratic, *families)


def projection(config, run, params) -> None:
    """Split, sample and follow the errors of the free nets."""
    field, levels = toy.net_field("free", config, params), level_grid(config)
    split = run.arrays("projection", lambda: fit_levels(config, run, field, levels))
    members = [jax.tree.map(lambda a, i=i: a[i], field) for i in range(config.num_seeds)]
    fitted = [
        diagnostics.with_error(
            toy.BED.exact, Fitted(waves(config), split["log_snr"], split["coefficients"][i])
        )
        for i in range(config.num_seeds)
    ]
    run.arrays("projection_samples", lambda: compare(config, members, fitted))
    run.arrays("net_rates", lambda: net_rates(config, run, members))


def fit_levels(config, run, field, levels) -> dict[str, np.ndarray]:
    """Return the coefficients (m, levels, features), levels from the clean end, and the squares of
    sigma e, sigma grad eta and sigma r on the other half of the draws, (m, levels)."""
    features, keys = waves(config), toy.member_keys(config, 2)
    rising = time_of(SCHEDULE, levels)  # from the noise to the data: log-SNR rises
    rows, coefficients = [], []
    with run.progress(len(rising), "projection", unit="level") as bar:
        for t in rising:
            x = toy.draws(keys, config.toy.num_fit, float(t))
            c, parts = _fit(features, field, x, jnp.float32(t))
            coefficients.append(np.asarray(c))
            rows.append(jax.tree.map(np.asarray, parts._asdict()))
            bar.update(1)
    found = {name: np.stack([row[name] for row in rows], axis=1) for name in rows[0]}
    log_snr = -2 * np.log(levels)
    return {"level": levels, "log_snr": log_snr, "coefficients": np.stack(coefficients, 1), **found}


@jax.jit
def _fit(features, field, x, t):
    """Fit on the first half of the draws of each member, judge on the second."""
    level, half = SCHEDULE.at(t), x.shape[1] // 2

    def one(field, x):
        error = diagnostics.score_error(field, toy.BED.exact, level)
        values = level.sigma * error(x)
        potential = diagnostics.project(features, x[:half], values[:half])
        return potential.coefficients, diagnostics.parts(potential, x[half:], values[half:])

    return jax.vmap(one)(field, x)


def compare(config, members, fitted) -> dict[str, np.ndarray]:
    """Return W_2 to the truth and KL(p | q) at the last level by field and member."""
    exact = toy.truth(config, 0)
    test = make_test(config, toy.BED.target)
    # The exact field as one with an error of 0: the program of the projected ones.
    exact_fields = [dataclasses.replace(f, weight=0.0) for f in fitted]
    kinds = {"net": members, "gradient": fitted, "exact": exact_fields}
    times = time_of(SCHEDULE, level_grid(config))
    keys = toy.member_keys(config, 0)
    rows: dict[str, list] = {"w2": [], "kl": []}
    for name in FIELDS:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *kinds[name])
        x = toy.trajectories(stacked, keys, config.toy.num_samples, times)[-1]
        rows["w2"].append(perturbed.distances(x, exact))
        rows["kl"].append(
            [divergence_from(test, _in_float64(f), config.levels.low) for f in kinds[name]]
        )
    found = {name: np.asarray(values) for name, values in rows.items()}
    return {"names": np.asarray(FIELDS), **found}


def net_rates(config, run, members) -> dict[str, np.ndarray]:
    """Return what `rates` finds for each free net, arrays (m, levels)."""
    test = make_test(config, toy.BED.target)
    found = []
    with run.progress(len(members), "rates of nets", unit="net") as bar:
        for field in members:
            found.append(rates(test, _in_float64(field), config.rates.levels))
            bar.update(1)
    return {name: np.stack([row[name] for row in found]) for name in found[0]}


def _in_float64(field):
    with jax.enable_x64(True):
        return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), field)

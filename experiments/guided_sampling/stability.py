"""Part (a) of `guided_sampling`: solvers on a guided field against a tight adaptive solve of the
same field, as the weight grows.

Source: Lu et al. 2022b (DPM-Solver++), section 3.
"""

from __future__ import annotations

import functools
import itertools

import jax
import numpy as np

from dfx import fields, schedules, solvers
from dfx.fields.threshold import Clipped
from experiments.guided_sampling.laws import LABELLED, Labelled

#: Name -> what the solver integrates as a polynomial, the solver's registry name, its options.
METHODS = {
    "ddim": ("first order", "ddim", {}),
    "dpm_solver_2s": ("noise", "dpm_solver_2s", {}),
    "dpm_solver_3s": ("noise", "dpm_solver_3s", {}),
    "dpm_solver_2m": ("noise", "dpm_solver_2m", {}),
    "dpm_solver_3m": ("noise", "dpm_solver_3m", {}),
    "deis_tab": ("noise", "deis_tab", {}),
    "ipndm": ("noise", "ipndm", {}),
    "unipc_noise": ("noise", "unipc_2", {"data": False}),
    "dpm_solver_pp_2s": ("data", "dpm_solver_pp_2s", {}),
    "dpm_solver_pp_3s": ("data", "dpm_solver_pp_3s", {}),
    "dpm_solver_pp_2m": ("data", "dpm_solver_pp_2m", {}),
    "dpm_solver_pp_3m": ("data", "dpm_solver_pp_3m", {}),
    "unipc_data": ("data", "unipc_2", {}),
}

#: A box holds every component of the data up to so many standard deviations.
BOX = 4.0


#: Solvers of at most so many evaluations share one program, the others a second.
SHORT = 20

#: The law that is solved with static thresholding too: its data fill their box.
CLIPPED = "grid"


def run_stability(config, run) -> None:
    """Solve every law, and one with its denoiser clipped to the box of the data."""
    for name, clipped in cases(config):
        compute = functools.partial(solve, config, run, name, clipped)
        run.arrays(stage(name, clipped), compute)


def cases(config) -> list[tuple[str, bool]]:
    """The (law, whether it is clipped) that are solved."""
    names = config.stability.laws
    return [(name, False) for name in names] + [(name, True) for name in names if name == CLIPPED]


def stage(name: str, clipped: bool) -> str:
    """The name of the arrays of one case."""
    return f"stability_{name}" + ("_clipped" if clipped else "")


def solve(config, run, name: str, clipped: bool) -> dict[str, np.ndarray]:
    """Return for every sample how far each solver ends from the tight solve.

    Arrays: `error` (spacings, methods, evaluations, weights, seeds, n), distances; `outside` of the
    same shape, whether the end lies outside the box; `exact_outside` (weights, seeds, n), whether
    that of the tight solve does.
    """
    settings, law = config.stability, LABELLED[name]()
    schedule, bound = schedules.VPLinear(), box(law)
    with jax.enable_x64(True):
        x = starts(config, law, schedule, settings.num_samples[name])
        limit = float(bound.max() if clipped else np.inf)
        weights = np.asarray(settings.weights, np.float64)
        exact = tight(settings, schedule, law, x, weights, limit)
        ends = []
        tableaus = pad_alike(make_tableaus(settings, schedule))
        with run.progress(len(tableaus), stage(name, clipped), unit="solve") as bar:
            for tableau in tableaus:
                ends.append(np.asarray(_solve(tableau, law, x, weights, limit)))
                bar.update(1)
    rows = len(settings.spacings), len(METHODS), len(settings.evaluations)
    found = np.stack(ends).reshape(*rows, *exact.shape)
    return {
        "methods": np.asarray(list(METHODS)),
        "error": by_seed(np.linalg.norm(found - exact, axis=-1), config.num_seeds),
        "outside": by_seed(outside(found, bound), config.num_seeds),
        "exact_outside": by_seed(outside(exact, bound), config.num_seeds),
    }


def starts(config, law: Labelled, schedule, n: int) -> np.ndarray:
    """Return noise for every class, shape (classes, seeds * n, d)."""
    shape = law.num_classes, config.num_seeds * n, law.law.dim
    return schedule.at(1.0).sigma * np.random.default_rng(config.seed).normal(size=shape)


def by_seed(values, num_seeds: int) -> np.ndarray:
    """Return (..., classes, seeds * n) as (..., seeds, classes * n)."""
    split = values.reshape(*values.shape[:-1], num_seeds, -1)
    moved = np.moveaxis(split, -3, -2)
    return moved.reshape(*moved.shape[:-2], -1)


def box(law: Labelled) -> np.ndarray:
    """Return how far the data reach along each axis, shape (d,): |mean| + BOX standard deviations,
    the largest over the components."""
    parts = [component_variances(law.law, k) for k in range(law.law.num_components)]
    return np.max(np.abs(law.law.means) + BOX * np.sqrt(parts), axis=0)


def component_variances(law, k: int) -> np.ndarray:
    """Return the variance along each axis of component k, shape (d,)."""
    variance = np.full(law.dim, law.variance[k % len(law.variance)])
    if law.spectrum is None:
        return variance
    spectrum = law.spectrum[k % len(law.spectrum)]
    if law.basis is None:
        return variance + spectrum
    return variance + law.basis[k % len(law.basis)] ** 2 @ spectrum


def outside(x, bound) -> np.ndarray:
    """Whether points lie outside the box; those that are not finite do."""
    return ~np.all(np.abs(x) <= bound, axis=-1)


def make_tableaus(settings, schedule) -> list[solvers.Tableau]:
    """Return a tableau for each spacing of the times, method and number of evaluations, in this
    order.

    All end at the same small time; a method of k stages takes evaluations // k steps.
    """
    tableaus = []
    for spacing, (_, name, options), evaluations in itertools.product(
        settings.spacings, METHODS.values(), settings.evaluations
    ):
        steps = evaluations // solvers.REGISTRY[name].evaluations
        grid = schedules.grids.make(spacing, schedule, steps, end=settings.end)
        tableaus.append(solvers.make(name, schedule, grid, **options))
    return tableaus


def pad_alike(tableaus: list[solvers.Tableau]) -> list[solvers.Tableau]:
    """Return the tableaus padded to two programs, the short ones and the long ones, in order."""
    is_long = [tableau.num_rows > SHORT for tableau in tableaus]
    groups = [
        iter(solvers.pad(group) if group else ())
        for group in (
            [tableau for tableau, long in zip(tableaus, is_long) if long == kind]
            for kind in (False, True)
        )
    ]
    return [next(groups[long]) for long in is_long]


def clipped_field(law, classes, weight, limit):
    """Return the guided field with its denoiser kept in the box; limit inf leaves it as it is."""
    guided = fields.classifier_free(fields.oracle(classes), fields.oracle(law), weight)
    return Clipped(guided, -limit, limit)  # `fields.clip` compares its ends, which are traced here


@jax.jit
def _solve(tableau, law, x, weights, limit):
    def one(weight, classes, x):
        field = clipped_field(law.law, classes, weight, limit)
        return solvers.sample(tableau, field, x, unroll=1)  # one copy of the field to compile

    of_classes = jax.vmap(one, (None, 0, 0))
    return jax.vmap(of_classes, (0, None, None))(weights, law.classes, x)


def tight(settings, schedule, law: Labelled, x, weights, limit) -> np.ndarray:
    """Return the ends by adaptive steps of order 8, shape (weights, classes, n, d)."""
    n, count = x.shape[1], len(weights)
    column = np.repeat(weights, n)[:, None]
    ends = []
    for label in range(law.num_classes):
        field = clipped_field(law.law, law.one(label), column, limit)
        path = solvers.sample_adaptive(
            schedule, field, np.tile(x[label], (count, 1)), end=settings.end,
            rtol=settings.tolerance, atol=settings.tolerance, method="dopri8",
        )  # fmt: skip
        if not bool(path.reached.all()):
            raise FloatingPointError("the tight solve needs more steps than it may take")
        ends.append(np.asarray(path.state).reshape(count, n, -1))
    return np.stack(ends, axis=1)

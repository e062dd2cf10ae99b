"""Gauge freedom, conservative nets and the intrinsic dimension.

What is kept, one file of arrays a stage:

    schematic             score, gauge part and density in the plane
    weight                of the gradient error, by time
    sizes                 E_p|r|^2 of both kinds of error of size 1, and E_p|s|^2, by time
    floor, ode, sde       W_2 of marginals to exact draws, and some samples
    density               errors of the log-density along paths, by number of steps
    rotation              radii after a rotation by three methods
    evaluations           W_2 by number of evaluations, with and without a gauge error
    linear, mixture       the orthogonal split in closed form, and from samples
    net_N                 parameters of the nets after N steps
    net_split             the split of the nets' score errors, by noise level
    net_laws, net_density what replacing a net by its gradient part does to samples and densities
    free5_N, ...          parameters on manifolds, by kind of net and dimension of space
    dimension_laws        the manifolds, and the times at which they are looked at
    exact_values, ...     singular values of d x_t / d x_1, by field
    net_errors            errors of the nets on manifolds to the exact fields, by noise level

Source: Horvat, Pfister (2024), arXiv 2402.03845.
"""

from __future__ import annotations

from experiments.gauge_freedom import exact, split
from experiments.gauge_freedom.dimension import dimension
from experiments.gauge_freedom.dimension import stages as dimension_stages
from experiments.gauge_freedom.nets import STAGES as NET_STAGES
from experiments.gauge_freedom.nets import trained


def run(config, run) -> None:
    """Run the parts that the config names; what is in the run folder already is not done again."""
    stages = {"exact": EXACT_STAGES, "nets": NET_STAGES, "dimension": dimension_stages(config)}
    run.plan(*(stage for part in config.parts for stage in stages[part]))
    parts = {"exact": closed_forms, "nets": trained, "dimension": dimension}
    for part in config.parts:
        parts[part](config, run)


EXACT_STAGES = ("ode", "sde", "density", "evaluations", "mixture")


def closed_forms(config, run) -> None:
    """Claims 1 to 5, without a net."""
    exact.schematic(config, run)
    exact.laws(config, run)
    exact.density(config, run)
    exact.rotation(config, run)
    exact.evaluations(config, run)
    split.split(config, run)

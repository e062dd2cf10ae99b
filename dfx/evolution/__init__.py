"""The evolution of laws without sampling noise: what a motion does to a density, not to samples.

A motion (`forward`, `reverse`, `given`) carries a law on a grid (`evolve`), as quantiles or points
(`move`) or as a log-density (`carried_log_density`); `ode_law` and `sde_law` are what a field
generates, `linear_law` the closed form for linear scores. The distances and the rates of entropy
are then numbers of their own, up to steps and spacing whose orders are stated.

May enter: a law found by quadrature, transport or closed form in one or two dimensions (along
paths, in any), its distances, and identities of its evolution. May not: estimates from samples
(`dfx.metrics`), residuals of a field at points, training.
"""

from dfx.evolution.distances import sampling_floor_2d, wasserstein_2d, wasserstein_grid_1d
from dfx.evolution.entropy import (
    Production,
    Rates,
    current_velocity,
    entropy_production,
    gap_bound,
    gradient_flow_velocity,
    relative_entropy,
    relative_entropy_parts,
    relative_entropy_rate,
    relative_fisher,
)
from dfx.evolution.fokker_planck import evolve, positive_step
from dfx.evolution.gaussian import Line, linear_field, linear_law
from dfx.evolution.gaussian_flow import (
    GaussianFlow,
    emergence_time,
    gaussian_flow,
    growth,
    mode_gain,
    mode_outline,
)
from dfx.evolution.grid import (
    Grid,
    coarsen,
    from_log,
    make_grid,
    mass,
    moments,
    on_grid,
    score_on_grid,
)
from dfx.evolution.laws import normal_prior, ode_law, sde_law
from dfx.evolution.motion import forward, given, reverse
from dfx.evolution.quantiles import (
    Nodes,
    grid_quantiles,
    mixture_quantiles,
    normal_nodes,
    wasserstein,
)
from dfx.evolution.sinkhorn import sinkhorn_divergence
from dfx.evolution.transport import carried_log_density, move, move_with_density

__all__ = [
    "GaussianFlow",
    "Grid",
    "Line",
    "Nodes",
    "Production",
    "Rates",
    "carried_log_density",
    "coarsen",
    "current_velocity",
    "emergence_time",
    "entropy_production",
    "evolve",
    "forward",
    "from_log",
    "gap_bound",
    "gaussian_flow",
    "given",
    "gradient_flow_velocity",
    "grid_quantiles",
    "growth",
    "linear_field",
    "linear_law",
    "make_grid",
    "mass",
    "mixture_quantiles",
    "mode_gain",
    "mode_outline",
    "moments",
    "move",
    "move_with_density",
    "normal_nodes",
    "normal_prior",
    "ode_law",
    "on_grid",
    "positive_step",
    "relative_entropy",
    "relative_entropy_parts",
    "relative_entropy_rate",
    "relative_fisher",
    "reverse",
    "sampling_floor_2d",
    "score_on_grid",
    "sde_law",
    "sinkhorn_divergence",
    "wasserstein",
    "wasserstein_2d",
    "wasserstein_grid_1d",
]

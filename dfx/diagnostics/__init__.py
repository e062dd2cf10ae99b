"""Numbers that judge a field: residuals, asymmetry, loops, orthogonal splits.

What enters: pure functions of a field, a score or a potential (and of the exact law, where there is
one) that return numbers or fields, with a value that is known on an exact field. They neither train
nor sample nor draw: judgements of samples are `metrics`.
"""

from dfx.diagnostics.asymmetry import Asymmetry, Pooled, asymmetry, pooled
from dfx.diagnostics.circulation import (
    Circulation,
    Loop,
    circle,
    circulation,
    parametrised,
    polygon,
    random_plane,
)
from dfx.diagnostics.decomposition import LinearSplit, Parts, split_linear
from dfx.diagnostics.dimension import (
    count_by_gap,
    denoiser_singular_values,
    flipd,
    score_singular_values,
)
from dfx.diagnostics.directions import PROBES
from dfx.diagnostics.errors import (
    TimeTable,
    equal_norm,
    gradient_of,
    matrix_gauge,
    mean_square,
    rotated,
    with_error,
)
from dfx.diagnostics.explained_variance import Unexplained, unexplained
from dfx.diagnostics.features import fourier, joined, quadratic, radial
from dfx.diagnostics.flow_jacobian import FlowJacobian, flow_jacobian, random_directions
from dfx.diagnostics.fokker_planck import (
    continuity_residual,
    potential_residual,
    score_residual,
)
from dfx.diagnostics.gauge import GaugeResidual, gauge_field, gauge_residual
from dfx.diagnostics.jacobian_svd import JacobianSVD, effective_rank, jacobian_svd
from dfx.diagnostics.poisson import GridSplit, split_on_grid
from dfx.diagnostics.projection import Potential, parts, project
from dfx.diagnostics.spatial import Spatial, spatial
from dfx.diagnostics.views import prediction_at, score_error
from dfx.diagnostics.weak import WeakTest, weak_gauge_test

__all__ = [
    "PROBES",
    "Asymmetry",
    "Circulation",
    "FlowJacobian",
    "GaugeResidual",
    "GridSplit",
    "JacobianSVD",
    "LinearSplit",
    "Loop",
    "Parts",
    "Pooled",
    "Potential",
    "Spatial",
    "TimeTable",
    "Unexplained",
    "WeakTest",
    "asymmetry",
    "circle",
    "circulation",
    "continuity_residual",
    "count_by_gap",
    "denoiser_singular_values",
    "effective_rank",
    "equal_norm",
    "flipd",
    "flow_jacobian",
    "fourier",
    "gauge_field",
    "gauge_residual",
    "gradient_of",
    "jacobian_svd",
    "joined",
    "matrix_gauge",
    "mean_square",
    "parametrised",
    "parts",
    "polygon",
    "pooled",
    "potential_residual",
    "prediction_at",
    "project",
    "quadratic",
    "radial",
    "random_directions",
    "random_plane",
    "rotated",
    "score_error",
    "score_residual",
    "score_singular_values",
    "spatial",
    "split_linear",
    "split_on_grid",
    "unexplained",
    "weak_gauge_test",
    "with_error",
]

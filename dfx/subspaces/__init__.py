"""Data as a union of subspaces: fitted, compared with the truth, and moved along.

What enters: what a low-rank denoiser's loss asks of its subspaces, solvers for that, distances of
subspaces, and edits along directions of a field. Laws of such data are `targets`, the denoiser is
`nets.low_rank`, readings of a field's Jacobian are `diagnostics`; training is none of its business.
"""

from dfx.subspaces.edits import edited, moved, project_out
from dfx.subspaces.objective import (
    Coefficients,
    assign,
    coefficients,
    coefficients_at,
    energies,
    expected_loss,
    kept,
)
from dfx.subspaces.recovery import (
    Recovery,
    distances,
    match,
    match_by_permutations,
    misassigned,
    principal_angles,
    projection_distance,
    recovery,
)
from dfx.subspaces.solver import Clustering, k_subspaces, principal_subspace

__all__ = [
    "Clustering",
    "Coefficients",
    "Recovery",
    "assign",
    "coefficients",
    "coefficients_at",
    "distances",
    "edited",
    "energies",
    "expected_loss",
    "k_subspaces",
    "kept",
    "match",
    "match_by_permutations",
    "misassigned",
    "moved",
    "principal_angles",
    "principal_subspace",
    "project_out",
    "projection_distance",
    "recovery",
]

"""Numbers that judge samples: modes, detection, intervals, distances, neighbours, classes, bits.

On the host, in float64; what compares large sets pairwise runs on the device, block by block.
"""

from dfx.metrics.bits import bits_per_dimension, mean_bits
from dfx.metrics.classes import Classes, all_present_probability, class_histogram
from dfx.metrics.detection import (
    Curve,
    Filtered,
    auc,
    keep_lowest,
    removed_and_kept,
    roc,
    threshold_keeping,
)
from dfx.metrics.distances import sliced_wasserstein, wasserstein_1d
from dfx.metrics.estimate import Estimate
from dfx.metrics.gaussian_fits import (
    FrechetEstimate,
    bures,
    frechet,
    frechet_distance,
    frechet_estimate,
    frechet_gaussian,
)
from dfx.metrics.intervals import Interval, bootstrap, wilson
from dfx.metrics.manifold import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    expected_coverage,
    precision_recall,
)
from dfx.metrics.memorisation import Memorised, Nearness, memorised, nearness
from dfx.metrics.modes import (
    Between,
    between_modes,
    hallucinated,
    hallucinated_fraction,
    mode_shares,
    nearest_mode,
    pair_counts,
    within_mode_std,
)
from dfx.metrics.neighbours import Balls, Neighbours, in_balls, nearest
from dfx.metrics.trajectory import Plane, end_plane, principal_shares, rotation, rotation_r2
from dfx.metrics.transport import Sinkhorn, sinkhorn, squared_distances, wasserstein_exact

__all__ = [
    "Balls",
    "Between",
    "Classes",
    "Curve",
    "DensityCoverage",
    "Estimate",
    "Filtered",
    "FrechetEstimate",
    "Interval",
    "Memorised",
    "Nearness",
    "Neighbours",
    "Plane",
    "PrecisionRecall",
    "Sinkhorn",
    "all_present_probability",
    "auc",
    "between_modes",
    "bits_per_dimension",
    "bootstrap",
    "bures",
    "class_histogram",
    "density_coverage",
    "end_plane",
    "expected_coverage",
    "frechet",
    "frechet_distance",
    "frechet_estimate",
    "frechet_gaussian",
    "hallucinated",
    "hallucinated_fraction",
    "in_balls",
    "keep_lowest",
    "mean_bits",
    "memorised",
    "mode_shares",
    "nearest",
    "nearest_mode",
    "nearness",
    "pair_counts",
    "precision_recall",
    "principal_shares",
    "removed_and_kept",
    "roc",
    "rotation",
    "rotation_r2",
    "sinkhorn",
    "sliced_wasserstein",
    "squared_distances",
    "threshold_keeping",
    "wasserstein_1d",
    "wasserstein_exact",
    "wilson",
    "within_mode_std",
]

"""Numbers that judge samples: modes, detection, intervals, distances; on the host, in float64."""

from dfx.metrics.detection import (
    Curve,
    Filtered,
    auc,
    keep_lowest,
    removed_and_kept,
    roc,
    threshold_keeping,
)
from dfx.metrics.distances import (
    frechet,
    frechet_gaussian,
    sliced_wasserstein,
    wasserstein_1d,
)
from dfx.metrics.intervals import Interval, bootstrap, wilson
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

__all__ = [
    "Between",
    "Curve",
    "Filtered",
    "Interval",
    "auc",
    "between_modes",
    "bootstrap",
    "frechet",
    "frechet_gaussian",
    "hallucinated",
    "hallucinated_fraction",
    "keep_lowest",
    "mode_shares",
    "nearest_mode",
    "pair_counts",
    "removed_and_kept",
    "roc",
    "sliced_wasserstein",
    "threshold_keeping",
    "wasserstein_1d",
    "wilson",
    "within_mode_std",
]

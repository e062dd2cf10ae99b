"""Samples, dimension and subspaces: when a denoiser finds the subspaces that data lie on.

The parts are modules of their own: `maps` (recovery by solvers and by low-rank nets), `laws`
(identities and exact denoisers), `nets` (perceptrons) and `pictures`. Problems with many d and N in
one shape are `problems`.

Source: Wang et al. (2024), arXiv 2409.02426.
"""

from __future__ import annotations

from experiments.subspace_clustering.laws import laws
from experiments.subspace_clustering.maps import maps
from experiments.subspace_clustering.nets import perceptrons
from experiments.subspace_clustering.pictures import pictures

_PARTS = {"maps": maps, "laws": laws, "nets": perceptrons, "pictures": pictures}

#: The long stages of each part, for the progress to count.
_STAGES = {
    "maps": ("map_k2", "map_k2_points", "map_k3", "map_net_1_bases", "map_net_2_bases"),
    "nets": ("perceptrons", "rank_low_rank_bases", "rank"),
}


def run(config, run) -> None:
    """Run the parts that the config names; what is in the run folder already is not done again."""
    stages = [stage for part in config.parts for stage in _STAGES.get(part, ())]
    if "pictures" in config.parts:
        stages += [f"{of}_{name}" for name in config.pictures.names for of in ("pictures", "rank")]
    run.plan(*stages)
    for part in config.parts:
        _PARTS[part](config, run)

"""Do nets paint like a Gaussian: the parts of the study and their order.

    exact   closed forms, power-law Gaussians, clouds of points
    nets    pictures, trained nets, fitted laws; then `fields` (explained variance, ranks), `paths`
            (paths, end samples, kicks) and `teleport`

Sources: Wang & Vastola (2023), arXiv 2303.02490; (2024), arXiv 2412.09726.
"""

from __future__ import annotations

import itertools

from experiments.gaussian_painters import nets as setup
from experiments.gaussian_painters.exact import exact
from experiments.gaussian_painters.fields import measure_fields
from experiments.gaussian_painters.paths import measure_paths
from experiments.gaussian_painters.teleport import measure_teleport


def run(config, run) -> None:
    """Run the parts that the config names; what is in the run folder already is not done again."""
    parts = {"exact": exact, "nets": nets}
    run.plan(*itertools.chain(*(_STAGES[part] for part in config.parts)))
    for part in config.parts:
        parts[part](config, run)


def nets(config, run) -> None:
    """Train the nets and fit the laws; then measure."""
    pictures = setup.load(config)
    net = setup.make_net(config, pictures.shape)
    snapshots = setup.train_nets(config, run, net, pictures.train)
    laws = setup.fit_laws(config, pictures.train)
    measure_fields(config, run, net, snapshots, laws, pictures)
    measure_paths(config, run, net, snapshots[-1], laws, pictures)
    measure_teleport(config, run, net, snapshots[-1], laws, pictures)


#: The long stages of each part, for the progress to count.
_STAGES: dict[str, list[str]] = {
    "exact": [],
    "nets": ["net", "explained", "explained in training", "kicks", "teleport"],
}

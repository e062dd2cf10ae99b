"""Are trained nets scores, and does it matter: the parts of the study and their order.

    identities   what holds for every law, by quadrature
    errors       harmless and harmful errors of equal size
    toy (nets)   nets in two dimensions, beside their exact score
    pictures     nets on digits, MNIST or CIFAR-10

Source: Vuong, McCann, Santos & Lin (2025), arXiv 2509.00336; its nets, data and numbers are not
known to us, all set-ups are ours.
"""

from __future__ import annotations

import itertools

from experiments.score_or_flow.errors import errors
from experiments.score_or_flow.identities import identities
from experiments.score_or_flow.pictures import pictures
from experiments.score_or_flow.projection import projection
from experiments.score_or_flow.toy import train_and_measure


def run(config, run) -> None:
    """Run the parts that the config names; what is in the run folder already is not done again."""
    parts = {"identities": identities, "errors": errors, "toy": toy, "pictures": pictures}
    run.plan(*itertools.chain(*(_stages(config)[part] for part in config.parts)))
    for part in config.parts:
        parts[part](config, run)


def toy(config, run) -> None:
    """Train and measure the nets in two dimensions, then split and follow their errors."""
    projection(config, run, train_and_measure(config, run)["free"][-1])


def _stages(config) -> dict[str, list[str]]:
    """The long stages of each part, for the progress to count."""
    kinds = config.toy.kinds
    return {
        "identities": [],
        "errors": ["errors"],
        "toy": [*kinds, *(f"{kind} fields" for kind in kinds), "projection", "rates of nets"],
        "pictures": ["pictures", "pictures measured"],
    }

"""The README's Python lines run as they are shown."""

import re
from pathlib import Path

import numpy as np
import pytest

from dfx import metrics

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def shown():
    """The names that the README's lines leave behind."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    return names


def spread(samples, target):
    """Distances to the nearest mode in standard deviations."""
    return metrics.nearest_mode(samples, target.means, np.sqrt(target.variance[0]))[1]


def test_exact_score_puts_every_sample_at_a_mode(shown):
    # 6 standard deviations in two dimensions: probability exp(-18) a sample.
    assert spread(shown["exact"], shown["target"]).max() < 6


def test_trained_net_puts_most_samples_near_a_mode(shown):
    # The data fill 25 pi (6 sd)^2 / 4 = 10 % of the square that holds them; an untrained net
    # leaves the samples spread out.
    assert (spread(shown["learned"], shown["target"]) < 6).mean() > 0.5

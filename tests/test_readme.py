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


@pytest.mark.slow
def test_exact_score_puts_every_sample_at_a_mode(shown):
    # In two dimensions a sample is beyond 6 standard deviations with probability exp(-18); the
    # solver's error at 50 steps is a fraction of one.
    assert spread(shown["exact"], shown["target"]).max() < 6


@pytest.mark.slow
def test_trained_net_puts_most_samples_at_a_mode(shown):
    # Within 3 standard deviations are 99% of the data, and 9 pi (3 sd)^2 of the square that holds
    # them, 37%, which is what samples without structure would have.
    assert (spread(shown["learned"], shown["target"]) < 3).mean() > 0.7

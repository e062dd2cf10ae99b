"""The embedded default: the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn.

Source: the test half of "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak 1998.
"""

from __future__ import annotations

import numpy as np

from dfx.data.layout import Pictures

#: The set has no test split of its own: every fifth picture is taken for it.
_TEST_EVERY = 5


def read(split: str, limit: int | None = None) -> Pictures:
    """Return the digits of a split, uint8 (n, 8, 8, 1): 1,438 for "train", 359 for "test".

    The values 0..16 become round(255 value / 16).
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    test = np.arange(len(digits.target)) % _TEST_EVERY == _TEST_EVERY - 1
    keep = np.flatnonzero(test if split == "test" else ~test)[:limit]
    images = np.round(digits.images[keep, ..., None] * (255 / 16)).astype(np.uint8)
    return Pictures(images, digits.target[keep])

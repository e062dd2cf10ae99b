"""The published sets, where they lie beside the project (../shared/data)."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from dfx import data

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
#: How often each digit occurs in MNIST (the counts of the published label files).
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
#: MD5 of train-images-idx3-ubyte, unpacked, header included.
TRAIN_MD5 = "6bbc9ace898e44ae57da46a324031adb"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the published data sets")


@pytest.mark.parametrize(("split", "counts"), [("train", TRAIN_COUNTS), ("test", TEST_COUNTS)])
def test_mnist_has_the_published_counts(split, counts):
    mnist = data.load("mnist", SHARED, split)
    assert mnist.images.shape == (sum(counts), 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(mnist.labels), counts)
    assert (mnist.images.min(), mnist.images.max()) == (0, 255)


def test_mnist_training_pictures_are_the_published_bytes():
    header = bytes([0, 0, 8, 3]) + np.array([60_000, 28, 28], ">u4").tobytes()
    images = data.load("mnist", SHARED / "mnist").images
    assert hashlib.md5(header + images.tobytes()).hexdigest() == TRAIN_MD5


def test_cifar10_begins_with_colour_pictures():
    cifar = data.load("cifar10", SHARED, limit=500)
    assert cifar.images.shape == (500, 32, 32, 3)
    assert cifar.num_classes == 10
    # 50 a class in a shuffled set, with a binomial's sd of 6.7; 5 sd.
    assert np.abs(np.bincount(cifar.labels, minlength=10) - 50).max() < 34
    # Natural pictures: neighbours are alike, and the channels differ.
    pixels = cifar.images.astype(float)
    assert np.abs(np.diff(pixels, axis=2)).mean() < 0.5 * np.abs(pixels - pixels.mean()).mean()
    assert np.ptp(pixels.mean((0, 1, 2))) > 5


@pytest.mark.slow
@pytest.mark.parametrize(("split", "n"), [("train", 50_000), ("test", 10_000)])
def test_cifar10_has_the_published_counts(split, n):
    cifar = data.load("cifar10", SHARED, split)
    assert cifar.images.shape == (n, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(cifar.labels), np.full(10, n // 10))

"""Pictures of simple shapes, and the detector that counts impossible ones."""

import jax
import numpy as np
import pytest
from scipy import stats

from dfx.errors import PersonError
from dfx.targets import shapes


@pytest.fixture(scope="module", params=[28, 64])
def drawn(request):
    return shapes.draw(jax.random.key(0), 1000, request.param)


@pytest.mark.slow
def test_detector_finds_every_drawn_shape_in_its_own_column_and_nothing_else(drawn):
    images, present = drawn
    seen = shapes.detect(images)
    np.testing.assert_array_equal(
        seen.counts, np.einsum("nk,kj->nkj", present, np.eye(3, dtype=int))
    )
    assert not seen.other.any() and not seen.impossible.any() and not seen.empty.any()


def test_detector_sees_through_grey_noise(drawn):
    images, present = drawn[0][:300], drawn[1][:300]
    noise = 0.3 * np.random.default_rng(0).normal(size=images.shape)
    # A pixel flips with probability Phi(-1 / 0.3) = 4e-4, and one is never enough for a shape.
    seen = shapes.detect(images / 127.5 - 1 + noise)
    assert (seen.counts.sum(2) == present).mean() > 0.99
    assert seen.impossible.mean() < 0.005


def test_each_non_empty_set_of_shapes_is_equally_likely(drawn):
    _, present = drawn
    counts = np.bincount(present @ np.array([1, 2, 4]), minlength=8)
    assert counts[0] == 0
    # Chi-square with 6 degrees of freedom: 22.5 has probability 0.001.
    assert (((counts[1:] - 1000 / 7) ** 2) / (1000 / 7)).sum() < 22.5


def test_shapes_are_equally_likely_at_every_place_of_their_columns(drawn):
    """And the last pixel of a column stays black: shapes of two columns never touch."""
    images, present = drawn
    width = (images.shape[1] - 1) // 3
    bright = images[:, : 3 * width, : 3 * width, 0].reshape(-1, 3 * width, 3, width) > 0
    rows, columns = bright.any(3).swapaxes(1, 2)[present], bright.any(1)[present]
    for found, room in ((rows, 3 * width), (columns, width - 1)):
        # All three are moved as far as the largest can go; first row and column are never empty.
        places = room - found.sum(1).max() + 1
        counts = np.bincount(found.argmax(1), minlength=places)
        assert len(counts) == places and stats.chisquare(counts).pvalue > 1e-3


def test_papers_shapes_have_about_65_white_pixels():
    images, present = shapes.draw(jax.random.key(1), 200)
    white = (images == 255).sum((1, 2, 3)) / present.sum(1)
    assert images.shape[1:] == (64, 64, 1) and set(np.unique(images)) == {0, 255}
    assert white.min() >= 62 and white.max() <= 68
    # Each stands on a side: from the first to the last row it is 2 to 12, 8 to 8, 4 to 6 wide.
    for kind, widens in enumerate([10, 0, 2]):
        (shape, *_) = images[(present == (np.arange(3) == kind)).all(1), :, :, 0] > 0
        rows = shape.sum(1)[shape.any(1)]
        assert rows[-1] - rows[0] == widens


def test_a_shape_twice_or_in_a_foreign_column_is_impossible():
    images, present = shapes.draw(jax.random.key(2), 300, 64)
    alone = images[(present == [True, False, False]).all(1)][:20]
    moved = np.roll(alone, 21, axis=2)  # a triangle in the column of the squares
    assert shapes.detect(moved).impossible.all()
    twice = np.maximum(alone, np.roll(alone, 30, axis=1))
    rows = np.argwhere(alone[..., 0].any(2))
    clear = [i for i in range(len(alone)) if rows[rows[:, 0] == i, 1].max() < 30]
    assert len(clear) > 2 and shapes.detect(twice[clear]).impossible.all()


def test_picture_i_does_not_depend_on_how_many_are_drawn():
    few, many = (shapes.draw(jax.random.key(3), n, 28)[0] for n in (5, 50))
    np.testing.assert_array_equal(few, many[:5])


def test_blank_pictures_are_empty_and_blobs_are_other():
    blank, blob = np.zeros((1, 28, 28, 1), np.uint8), np.zeros((1, 28, 28, 1), np.uint8)
    blob[0, 2:26, 10:13] = 255
    assert shapes.detect(blank).empty.all()
    seen = shapes.detect(blob)
    assert seen.other.tolist() == [1] and seen.counts.sum() == 0 and not seen.empty.any()
    # A shape has 25 pixels here: less than a quarter of them is noise, more is a blob.
    blank[0, 3:8, 4] = 255
    assert shapes.detect(blank).empty.all()
    blank[0, 3:11, 4] = 255
    assert shapes.detect(blank).other.tolist() == [1]


def test_too_small_a_picture_is_refused_with_what_is_allowed():
    with pytest.raises(PersonError, match="size is 20, allowed: 28 and more"):
        shapes.draw(jax.random.key(0), 1, 20)

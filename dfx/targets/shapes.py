"""Simple shapes: pictures of a triangle, a square and a pentagon, each in its own third of the
width.

Each shape is there with probability 1/2, at a random place of its column; pictures without any
shape are not drawn. So no picture of the data shows a shape twice, or outside its column: a
generated one that does is impossible, and `detect` counts it.

Source: Aithal et al. 2024, arXiv 2406.09358; sizes from its code.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from dfx.errors import PersonError

KINDS = ("triangle", "square", "pentagon")
#: The smallest picture in which the three kinds differ by several pixels.
MIN_SIZE = 28
#: A component is a shape if the best template shares this part (intersection over union) with it
...
MATCH = 0.7
#: ... and noise if it has less than this part of a shape's pixels.
NOISE = 0.25


class Seen(NamedTuple):
    """What `detect` finds in pictures.

    counts: int (n, 3, 3), shapes by column of the picture and kind.
    other: int (n,), bright components that look like none of the kinds.
    """

    counts: np.ndarray
    other: np.ndarray

    @property
    def impossible(self) -> np.ndarray:
        """Whether a picture has a shape twice or in the wrong column, bool (n,)."""
        own = np.einsum("nkk->nk", self.counts)
        return (own > 1).any(1) | (self.counts.sum((1, 2)) > own.sum(1))

    @property
    def empty(self) -> np.ndarray:
        """Whether a picture shows nothing at all, bool (n,)."""
        return self.counts.sum((1, 2)) + self.other == 0


def draw(key, n: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures uint8 (n, size, size, 1), 0 black and 255 white, and which shapes they show,
    bool (n, 3).

    Args:
      key: a typed key; picture i is the same for every n.
      n: the number of pictures.
      size: of a picture; 64 is the paper's, with about 65 white pixels a shape.

    Raises:
      PersonError: size below MIN_SIZE.
    """
    templates = _templates(size)
    width, (height, _) = _column(size), templates.shape[1:]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n))

    def one(key):
        which, row, column = jax.random.split(key, 3)
        present = jax.random.randint(
            which, (), 1, 8, jnp.int32
        )  # all but the empty subset, equally
        down = jax.random.randint(row, (3,), 0, 3 * width - height + 1, jnp.int32)
        # The last pixel of a column stays black, so that shapes of two columns never touch.
        along = jax.random.randint(column, (3,), 0, width - templates.shape[2], jnp.int32)
        return present >> jnp.arange(3) & 1, down, along

    present, down, along = (np.asarray(a) for a in jax.jit(jax.vmap(one))(keys))
    images = np.zeros((n, size, size, 1), np.uint8)
    for i, kind in zip(*np.nonzero(present)):
        top, left = down[i, kind], kind * width + along[i, kind]
        window = images[i, top : top + height, left : left + templates.shape[2], 0]
        window[templates[kind]] = 255
    return images, present.astype(bool)


def detect(pictures) -> Seen:
    """Return what pictures show: the shapes by column and kind, and what is none of them.

    A picture is cut at half its brightness into connected components. A component counts as the
    kind whose template overlaps it best, in the column of its centre. Exact on drawn pictures.

    Args:
      pictures: uint8 in 0..255, or floats in [-1, 1], shape (n, size, size, 1) or (n, size, size).
    """
    pictures = np.asarray(pictures)
    bright = pictures > (127 if pictures.dtype == np.uint8 else 0.0)
    bright = bright.reshape(pictures.shape[:3])
    templates = _templates(bright.shape[1])
    found = [_detect_one(picture, templates) for picture in bright]
    counts, other = zip(*found) if found else ([], [])
    return Seen(np.asarray(counts, int).reshape(-1, 3, 3), np.asarray(other, int))


def _detect_one(bright: np.ndarray, templates: np.ndarray) -> tuple[np.ndarray, int]:
    counts, other = np.zeros((3, 3), int), 0
    labels, number = ndimage.label(bright)
    smallest = NOISE * templates.sum((1, 2)).mean()
    for label, box in zip(range(1, number + 1), ndimage.find_objects(labels)):
        component = labels[box] == label
        if component.sum() < smallest:
            continue
        overlap = [_overlap(component, template) for template in templates]
        middle = (box[1].start + box[1].stop - 1) / 2
        column = min(int(middle // _column(len(bright))), 2)
        if max(overlap) >= MATCH:
            counts[column, int(np.argmax(overlap))] += 1
        else:
            other += 1
    return counts, other


def _overlap(component: np.ndarray, template: np.ndarray) -> float:
    """The largest intersection over union of two masks over shifts by up to two pixels."""
    rows, columns = (max(a, b) + 4 for a, b in zip(component.shape, template.shape))
    fixed = np.zeros((rows, columns), bool)
    fixed[2 : 2 + component.shape[0], 2 : 2 + component.shape[1]] = component
    best = 0.0
    for down, along in itertools.product(
        range(rows - template.shape[0] + 1), range(columns - template.shape[1] + 1)
    ):
        window = fixed[down : down + template.shape[0], along : along + template.shape[1]]
        shared = (window & template).sum()
        best = max(best, shared / (component.sum() + template.sum() - shared))
    return best


@functools.cache
def _templates(size: int) -> np.ndarray:
    """The three masks, bool (3, h, w), of about equal area."""
    if size < MIN_SIZE:
        raise PersonError(f"shapes: size is {size}, allowed: {MIN_SIZE} and more")
    side = _side(size)
    masks = [_regular(corners, side**2) for corners in (3, 4, 5)]
    height, width = (max(mask.shape[axis] for mask in masks) for axis in (0, 1))
    return np.stack([np.pad(m, ((0, height - m.shape[0]), (0, width - m.shape[1]))) for m in masks])


def _side(size: int) -> int:
    """The side of the square: 8 at the paper's 64, 5 at 28."""
    return round(8 * (size / 64) ** 0.6)


def _column(size: int) -> int:
    """The width of a column: 21 at 64."""
    return (size - 1) // 3


def _regular(corners: int, area: float) -> np.ndarray:
    """The mask of a regular polygon of the given area that stands on a side."""
    radius = np.sqrt(2 * area / (corners * np.sin(2 * np.pi / corners)))
    angles = np.pi / 2 + np.pi / corners + 2 * np.pi * np.arange(corners) / corners
    corner = radius * np.stack([np.cos(angles), np.sin(angles)], -1)  # y points down
    shifts = itertools.product((0.0, 0.5), (0.0, 0.5))  # an odd or even number of pixels
    masks = [_inside(corner, shift) for shift in shifts]
    return min(masks, key=lambda mask: abs(mask.sum() - area))


def _inside(corner: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """The pixels, at whole numbers plus `shift`, that lie in a convex polygon; trimmed."""
    reach = np.ceil(np.abs(corner).max())
    x, y = (np.arange(-reach, reach + 1) + by for by in shift)
    pixels = np.stack(np.meshgrid(x, y), -1)
    ahead, offset = np.roll(corner, -1, 0) - corner, pixels[:, :, None] - corner
    mask = (ahead[:, 0] * offset[..., 1] - ahead[:, 1] * offset[..., 0] >= -1e-9).all(-1)
    return mask[np.ix_(mask.any(1), mask.any(0))]

"""Pictures of any size brought to one square size."""

from __future__ import annotations

import numpy as np

from dfx.data.layout import DataError


def centre_square(image: np.ndarray, size: int) -> np.ndarray:
    """Return the middle square of a picture, uint8 (h, w, c) to (size, size, c).

    The picture is halved by 2 x 2 means while its shorter side is at least 2 size, then scaled
    bicubically until that side is `size`, and the middle of the longer side is kept; so it is done
    for the published ImageNet results at 64 and 256. A square picture of this size stays as it is.
    Source: Dhariwal and Nichol 2021, the training code of ADM.

    >>> centre_square(np.zeros((130, 200, 3), np.uint8), 64).shape
    (64, 64, 3)
    """
    if image.shape[:2] == (size, size):
        return image
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    while min(picture.size) >= 2 * size:
        halves = picture.width // 2, picture.height // 2
        picture = picture.resize(halves, Image.Resampling.BOX)
    scale = size / min(picture.size)
    sides = round(picture.width * scale), round(picture.height * scale)
    pixels = np.asarray(picture.resize(sides, Image.Resampling.BICUBIC))
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size].reshape(size, size, -1)


def as_channels(image: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Return a picture with 1 or 3 channels: grey becomes colour by repetition, never the reverse.

    Raises:
      DataError: a colour picture where grey is wanted.
    """
    if image.shape[-1] == channels:
        return image
    if image.shape[-1] != 1:
        raise DataError(f"{where}: colour picture, allowed here: grey (channels = 1)")
    return np.repeat(image, channels, axis=-1)

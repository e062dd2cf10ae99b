"""Pixels: picture files decoded to bytes, and bytes as numbers in [-1, 1]."""

from __future__ import annotations

import io

import jax
import jax.numpy as jnp
import numpy as np

from dfx.data.layout import DataError, one_line

_PNG_MAGIC = b"\x89PNG"
_PNG_END = b"IEND\xae\x42\x60\x82"
_GREY = ("1", "L")
_COLOUR = ("RGB", "P", "CMYK", "YCbCr")
_ALPHA = ("LA", "PA", "RGBA")


def to_unit(images):
    """Return pixels 0..255 as float32 in [-1, 1]: x = pixel / 127.5 - 1.

    Any shape; NumPy in, NumPy out, and JAX in, JAX out. `from_unit` is its exact inverse.

    >>> to_unit(np.array([0, 51, 255], np.uint8))
    array([-1. , -0.6,  1. ], dtype=float32)
    """
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def from_unit(x):
    """Return numbers in [-1, 1] as pixels uint8: round((x + 1) 127.5), clipped to 0..255.

    >>> from_unit(np.array([-1.2, -0.6, 1.0]))
    array([  0,  51, 255], dtype=uint8)
    """
    xp = jnp if isinstance(x, jax.Array) else np
    return xp.clip(xp.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


def decode(data: bytes, where: str) -> np.ndarray:
    """Return the pixels of a picture file, uint8 (h, w, c): c = 1 for grey pictures, 3 for colour.

    Args:
      data: the bytes of the file, in any format that Pillow knows.
      where: the name of the picture in error messages.

    Raises:
      DataError: the bytes are no whole picture, hold more than 8 bits a channel, or are partly
        transparent.
    """
    from PIL import Image

    try:
        if data.startswith(_PNG_MAGIC):
            # Checks the checksum of every chunk but the last, which reading the pixels does not.
            Image.open(io.BytesIO(data)).verify()
            if _PNG_END not in data:
                raise EOFError("its end is missing")
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:  # Pillow raises some ten kinds for broken files
        reason = one_line(error) if data else "no bytes"
        raise DataError(f"{where}: not a whole picture ({reason})") from error
    return np.asarray(_eight_bit(image, where)).reshape(image.height, image.width, -1)


def _eight_bit(image, where: str):
    """The picture in mode L or RGB."""
    mode = image.mode
    if mode in _ALPHA or "transparency" in image.info:
        # Under a transparent pixel lies no colour, so only an opaque picture can lose its alpha
        # channel.
        if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise DataError(f"{where}: picture is partly transparent, flatten it to grey or RGB")
        return image.convert("L" if mode in (*_GREY, "LA") else "RGB")
    if mode not in _GREY + _COLOUR:
        raise DataError(f"{where}: picture of mode {mode}, allowed: grey or colour of 8 bits")
    return image.convert("L" if mode in _GREY else "RGB")

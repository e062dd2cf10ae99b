"""Pictures as coarser grids of patches, and back."""

from __future__ import annotations


def fold(x, patch: int):
    """Return the patches of pictures as channels, (n, h, w, c) -> (n, h/p, w/p, p p c)."""
    n, height, width, channels = x.shape
    x = x.reshape(n, height // patch, patch, width // patch, patch, channels)
    return x.swapaxes(2, 3).reshape(n, height // patch, width // patch, patch * patch * channels)


def unfold(x, patch: int):
    """Return the pictures that have these patches; the inverse of `fold`."""
    n, height, width, _ = x.shape
    x = x.reshape(n, height, width, patch, patch, -1)
    return x.swapaxes(2, 3).reshape(n, height * patch, width * patch, -1)

"""The U-Nets of EDM for pictures, x of shape (n, height, width, channels).

DDPM++ and NCSN++ (Song et al. 2021) and ADM (Dhariwal & Nichol 2021), as trained again by Karras
et al. (2022, appendix F). They are one net with some switches: residual blocks at levels of halving
size, the change of size inside a block, attention at chosen sizes, and on the way up every kept
feature joined on. The last layers start at zero, so the net starts as the zero function.

Ours differs from theirs in small things. The class is a learned vector, the null class too, added
to the embedding of the time (DDPM++ adds it before the two linear maps, as ADM does not). Fourier
frequencies are quantiles, not draws. Features of the time take step numbers 0..1000, both kinds,
where EDM gave both log(sigma) / 4. All weights start as ours do: uniform by fan-in and fan-out,
the last ones at zero. There is no augmentation label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dfx.errors import PersonError, choose
from dfx.nets.compute import as_dtype, at_least_float32, check_compute, rematerialised
from dfx.nets.edm_blocks import Design, EdmBlock, num_groups
from dfx.nets.embedding import ClassEmbedding, TimeEmbedding, fourier, sinusoidal
from dfx.nets.initial import xavier_uniform
from dfx.nets.layers import Conv, GroupNorm
from dfx.nets.net import Net, check_picture, check_sizes, from_linen
from dfx.nets.resample import FILTERS, downsample

#: EDM's frequencies, |N(0, 16^2)| for log(sigma) / 4, where 0..1000 stands for log(sigma) from
#: 0.002 to 80, as the recipe `edm` tells it: the fastest turns by 0.8 a step.
_FOURIER_SCALE = 16 * math.log(80 / 0.002) / 4 / 1000

#: Features of a step number 0..1000 by name: the function and their number over `base`.
TIME_FEATURES: dict[str, tuple[Callable, int]] = {
    "positional": (sinusoidal, 1),
    "fourier": (partial(fourier, scale=_FOURIER_SCALE), 2),
}


class EdmUNet(nn.Module):
    """See `edm_unet`."""

    base: int
    multipliers: tuple[int, ...]
    num_blocks: int
    attention_sizes: tuple[int, ...]
    attention_up: str
    time: str
    residual_input: bool
    num_classes: int
    design: Design
    remat: str

    @property
    def dropout(self):
        return self.design.dropout

    @nn.compact
    def __call__(self, x, t, cond=None):
        block = self.block_maker(self.embed(t, cond, len(x)))
        width = self.base * self.multipliers[-1]
        h, kept = self.down(x, block)
        h = block(width, name="middle_0", attends=True)(h)
        h = block(width, name="middle_1")(h)
        h = at_least_float32(self.up(h, kept, block))
        groups, epsilon = num_groups(h.shape[-1]), self.design.epsilon
        h = GroupNorm(groups, epsilon, silu=True, name="norm")(h)
        return Conv(x.shape[-1], kernel_init=nn.initializers.zeros, name="outputs")(h)

    def embed(self, t, cond, num_samples):
        """The features of time and class that every block sees, shape (n, 4 base)."""
        function, factor = TIME_FEATURES[self.time]
        width, dtype = 4 * self.base, self.design.dtype
        features = TimeEmbedding(width, factor * self.base, dtype, function, name="time")(t)
        if self.num_classes:
            classes = ClassEmbedding(self.num_classes, width, name="classes")
            features = features + classes(cond, num_samples)
        return nn.silu(features)

    def block_maker(self, features):
        """Return (width, name=, ..) -> a block, a function of h."""
        make = rematerialised(EdmBlock, self.remat)
        drops = self.has_rng("dropout")

        def block(width, **options):
            made = make(width, self.design, drops=drops, **options)
            return lambda h: made(h, features)

        return block

    def down(self, x, block):
        """The way down: the lowest features, and all that is kept for the way up."""
        conv = partial(Conv, kernel_init=xavier_uniform, dtype=self.design.dtype)
        widths = [self.base * m for m in self.multipliers]
        h = conv(self.base, name="inputs")(x)
        shown, kept = x, [h]
        for i, width in enumerate(widths):
            if i > 0:
                h = block(widths[i - 1], name=f"down_{i}", resize="down")(h)
                if self.residual_input:
                    shown = conv(widths[i - 1], name=f"input_{i}")(shown)
                    shown = downsample(shown, self.design.resample)
                    h = shown = (h + shown) * math.sqrt(0.5)
                kept.append(h)
            attends = h.shape[1] in self.attention_sizes
            for j in range(self.num_blocks):
                h = block(width, name=f"down_{i}_{j}", attends=attends)(h)
                kept.append(h)
        return h, kept

    def up(self, h, kept, block):
        """The way up: every kept feature is joined on once."""
        for i, multiplier in reversed(list(enumerate(self.multipliers))):
            width = self.base * multiplier
            for j in range(self.num_blocks + 1):
                asked = self.attention_up == "every" or j == self.num_blocks
                attends = asked and h.shape[1] in self.attention_sizes
                joined = jnp.concatenate([h, kept.pop()], axis=-1)
                h = block(width, name=f"up_{i}_{j}", attends=attends)(joined)
            if i > 0:
                h = block(width, name=f"up_{i}", resize="up")(h)
        return h


def edm_unet(
    shape: tuple[int, int, int],
    base: int = 128,
    multipliers: Sequence[int] = (2, 2, 2),
    blocks: int = 4,
    attention_sizes: Sequence[int] = (16,),
    attention_up: str = "last",
    head_width: int = 0,
    adaptive: bool = False,
    rescale: bool = True,
    project: bool = True,
    resample: str = "box",
    time: str = "positional",
    residual_input: bool = False,
    epsilon: float = 1e-6,
    num_classes: int = 0,
    dropout: float = 0.0,
    dtype: Any = None,
    remat: str = "none",
    attention: str = "xla",
) -> Net:
    """Return a U-Net of EDM; `dfx.nets.presets` has those of the paper by name.

    t of shape (n,) is a step number 0..1000. `features` tells the pictures (n, h, w, c) after each
    block: down_0_0, .., middle_0, middle_1, .., up_0_0, .., numbered by level and block, and down_i
    (up_i) into level i (out of it), beside the embeddings and the first and last layers.

    Args:
      shape: (height, width, channels); height and width divisible by 2^(levels - 1).
      base: number of which the widths are multiples; the embedding has 4 base features.
      multipliers: width of each level over `base`, from the top.
      blocks: residual blocks a level on the way down; one more on the way up.
      attention_sizes: heights, in pixels, of the levels with attention; the lowest level has one
        between the ways down and up in any case.
      attention_up: "last", only the last block of a level on the way up, or "every".
      head_width: channels of a head, which divides the widths of levels with attention; 0 for one
        head of all channels.
      adaptive: time and class scale and shift after the second norm of a block (ADM); without, they
        are added before it (DDPM++).
      rescale: divide every sum of two paths by sqrt(2).
      project: a 1x1 convolution past every change of size, also where the widths agree.
      resample: the filter of changes of size, "box" or "fir".
      time: features of t, "positional" (DDPM++, ADM) or "fourier" (NCSN++).
      residual_input: join the picture, convolved and halved again at every level, on the way down
        (the encoder of NCSN++).
      epsilon: of the group norms, which have 32 groups, or fewer so that a group has 4 channels.
      num_classes: with more than zero, cond holds classes 0..num_classes - 1; num_classes or None
        is the null class.
      dropout: the share of a block's features left out, at `apply(.., key=key)` alone.
      dtype: the dtype of the computation, also by name; None promotes x and the float32
        parameters. See `dfx.nets.compute` for what stays float32.
      remat: what the backward pass computes again, a key of `dfx.nets.compute.REMAT`.
      attention: "xla", or "cudnn" on a GPU in half precision (`dfx.nets.compute.attend`).

    Raises:
      PersonError: a size that is none, or sizes that do not divide; an unknown choice.

    Source: Karras et al. (2022), tables 7 and 8.
    """
    multipliers = tuple(multipliers)
    check_sizes("edm_unet", base=base, multipliers=multipliers, blocks=blocks)
    check_sizes("edm_unet", 0, head_width=head_width, num_classes=num_classes)
    check_picture("edm_unet", shape, 2 ** (len(multipliers) - 1))
    dtype = as_dtype("edm_unet", dtype)
    check_compute("edm_unet", remat, attention, dtype)
    for kind, name, allowed in (
        ("resample", resample, FILTERS),
        ("time", time, TIME_FEATURES),
        ("attention_up", attention_up, dict.fromkeys(("last", "every"))),
    ):
        choose(f"{kind} of edm_unet:", name, allowed)
    _check_fit(shape, base, multipliers, tuple(attention_sizes), head_width, dropout)
    design = Design(
        adaptive, rescale, resample, project, head_width, epsilon, dropout, dtype, attention
    )
    module = EdmUNet(
        base,
        multipliers,
        blocks,
        tuple(attention_sizes),
        attention_up,
        time,
        residual_input,
        num_classes,
        design,
        remat,
    )
    return from_linen(module, tuple(shape), num_classes > 0)


def _check_fit(shape, base, multipliers, attention_sizes, head_width, dropout):
    """Raise a PersonError for sizes that do not fit each other."""
    heights = [shape[0] // 2**i for i in range(len(multipliers))]
    for size in attention_sizes:
        if size not in heights:
            raise PersonError(
                f"edm_unet: attention_sizes {attention_sizes}: the levels have heights {heights}"
            )
    attending = {base * m for m, size in zip(multipliers, heights) if size in attention_sizes}
    for width in attending | {base * multipliers[-1]}:
        if head_width and width % head_width:
            raise PersonError(f"edm_unet: width {width} must be a multiple of head {head_width}")
    if base % 4:
        raise PersonError(f"edm_unet: base {base} must be a multiple of 4")
    if not 0 <= dropout < 1:
        raise PersonError(f"edm_unet: dropout {dropout} must be in [0, 1)")

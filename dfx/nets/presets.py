"""Nets of the literature by name: the options of `edm_unet` and `dit` that make them.

Each takes the shape of a picture and any option of its maker, which then wins. Parameters are
counted without classes (EDM) and with 1000 (DiT).

DiT in the paper predicts a variance beside the noise, so its last layer is twice as wide. Ours
starts as `dit` does.
"""

from __future__ import annotations

from functools import partial

from dfx.nets.dit import dit
from dfx.nets.edm_unet import edm_unet

#: DDPM++ at 32 x 32 (CIFAR-10), 55.7 M parameters. Source: Karras et al. (2022), table 7, VP.
edm_ddpmpp = partial(edm_unet, dropout=0.13)

#: NCSN++ at 32 x 32 (CIFAR-10), 56.4 M parameters: smooth resampling, Fourier features of the
#: time, the picture at every level. Source: Karras et al. (2022), table 7, VE.
edm_ncsnpp = partial(edm_unet, dropout=0.13, resample="fir", time="fourier", residual_input=True)

#: ADM at 64 x 64 (ImageNet), 295.9 M parameters with 1000 classes.
#: Source: Karras et al. (2022), table 7; Dhariwal & Nichol (2021).
edm_adm = partial(
    edm_unet,
    base=192,
    multipliers=(1, 2, 3, 4),
    blocks=3,
    attention_sizes=(32, 16, 8),
    attention_up="every",
    head_width=64,
    adaptive=True,
    rescale=False,
    project=False,
    epsilon=1e-5,
    dropout=0.10,
)

_scaled = partial(dit, patch=2, places="fixed", scan=True)

#: DiT-S, 33 M parameters with patch 2 at 32 x 32 x 4. Source: Peebles & Xie (2023), table 1.
dit_s = partial(_scaled, width=384, depth=12, heads=6)
#: DiT-B, 130 M parameters.
dit_b = partial(_scaled, width=768, depth=12, heads=12)
#: DiT-L, 458 M parameters.
dit_l = partial(_scaled, width=1024, depth=24, heads=16)
#: DiT-XL, 675 M parameters.
dit_xl = partial(_scaled, width=1152, depth=28, heads=16)

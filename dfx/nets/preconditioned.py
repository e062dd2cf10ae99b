"""What stands around a net: its input scaled, its time told in its own units."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp

from dfx.nets.net import Net
from dfx.schedules.schedule import expand


# One pair for one net and one pair of functions, so that what is compiled for it is found again.
@functools.cache
def preconditioned(net: Net, scale: Callable | None = None, time: Callable | None = None) -> Net:
    """Return the net (params, x, t, cond) -> net(params, scale(t) x, time(t), cond).

    The outer half of EDM's preconditioning, D = c_skip x + c_out F, is the prediction "edm" of
    `dfx.fields.convert`.

    Args:
      net: the inner net F.
      scale: times (n,) -> factors (n,), c_in; None leaves x as it is. Keep one function object.
      time: times (n,) -> what the inner net is told, c_noise; None hands t on. Likewise.

    Source: Karras et al. 2022, equation 7.
    """

    def apply(params, x, t, cond=None, **key):
        told = t if time is None else time(t)
        seen = x if scale is None else jnp.asarray(expand(scale(t), x.ndim), x.dtype) * x
        return net.apply(params, seen, told, cond, **key)

    return Net(net.init, apply, dropout=net.dropout)

"""What a net is: a pair of pure functions, and the one place where flax modules become such pairs.

    init(key) -> params                      a plain nested dict of float32 arrays
    apply(params, x, t, cond=None) -> array  of the shape and dtype of x

x has shape (n, *sample), t has shape (n,) (or (n, T), one time per token, where a net says so)
and holds the number that the time embedding should see, which a loss and a field choose alike
(`time`); cond holds integer classes of shape (n,).
Sample i of the output depends on sample i of the input alone. What a net predicts (eps, x0,
velocity, ..) is not its business: a loss and a field say it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dfx.errors import PersonError

Params = Any


class Net(NamedTuple):
    """A net: `init(key) -> params` and `apply(params, x, t, cond=None)`; hashable."""

    init: Callable[..., Params]
    apply: Callable[..., jax.Array]


# Equal modules give the same pair, so that what is compiled for one serves the other.
@functools.cache
def from_linen(module: nn.Module, shape: tuple[int, ...], conditional: bool = False) -> Net:
    """Return the pair of a flax module.

    The module is called as `module(x, t)`, or `module(x, t, cond)` if conditional. `init` is
    jitted, since an eager flax init takes seconds. The result is cast to the dtype of x; the
    dtype of the computation inside is the module's own setting.

    Args:
      module: a linen module; its submodules carry names, so that parameter paths outlive a change
        of layers.
      shape: the shape of one sample, without the batch axis.
      conditional: whether the module takes classes; None then stands for the null class.
    """

    @jax.jit
    def init(key):
        return module.init(key, jnp.zeros((1, *shape), jnp.float32), jnp.zeros(1))["params"]

    def apply(params, x, t, cond=None):
        if cond is not None and not conditional:
            raise PersonError(f"{type(module).__name__} takes no cond: give it num_classes > 0")
        inputs = (x, t, cond) if conditional else (x, t)
        return jnp.asarray(module.apply({"params": params}, *inputs), x.dtype)

    return Net(init, apply)


def check_picture(name: str, shape: tuple[int, ...], multiple: int = 1):
    """Raise a PersonError unless shape is (height, width, channels), sides divisible."""
    if len(shape) != 3 or shape[0] % multiple or shape[1] % multiple:
        raise PersonError(
            f"{name}: shape {shape}: need (height, width, channels), sides multiples of {multiple}"
        )


def num_params(params: Params) -> int:
    """Return the number of scalars in a parameter tree, also of its shapes (`jax.eval_shape`)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))

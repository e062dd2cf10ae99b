"""What a net is: pure functions, and the one place where flax modules become such functions.

    init(key) -> params                         a plain nested dict of float32 arrays
    apply(params, x, t, cond=None) -> array     of the shape and dtype of x
    features(params, x, t, cond=None) -> (array, {name: array})    the same, and what is inside

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
import numpy as np

from dfx.errors import PersonError

Params = Any


class Net(NamedTuple):
    """A net: a pair of pure functions, and two more that some have; hashable.

    Attributes:
      init: key -> params.
      apply: (params, x, t, cond=None) -> the output. With `dropout` above 0 it takes `key=` too:
        with a key, parts of the net are left out at random, without one none are.
      features: (params, x, t, cond=None) -> the output and the outputs of the net's parts by name;
        None for a net that does not tell.
      dropout: the share left out, 0 for a net without.
    """

    init: Callable[..., Params]
    apply: Callable[..., jax.Array]
    features: Callable[..., tuple[jax.Array, dict[str, jax.Array]]] | None = None
    dropout: float = 0.0


# Equal modules give the same functions, so that what is compiled for one serves the other.
@functools.cache
def from_linen(module: nn.Module, shape: tuple[int, ...], conditional: bool = False) -> Net:
    """Return the net of a flax module.

    The module is called as `module(x, t)`, or `module(x, t, cond)` if conditional. `init` is
    jitted, since an eager flax init takes seconds. The result is cast to the dtype of x; the
    dtype of the computation inside is the module's own setting.

    `features` holds the output of each direct submodule under its name, under name_0, name_1, ..
    if it is called several times. A submodule that `nn.scan` repeats along the first axis of its
    parameters is listed in the module's `repeated`, {name: name of one}, and told apart as those.

    Args:
      module: a linen module; its submodules carry names, so that parameter paths outlive a change
        of layers. One with dropout has it as the attribute `dropout`.
      shape: the shape of one sample, without the batch axis.
      conditional: whether the module takes classes; None then stands for the null class.
    """
    dropout = float(getattr(module, "dropout", 0.0))

    @jax.jit
    def init(key):
        return module.init(key, jnp.zeros((1, *shape), jnp.float32), jnp.zeros(1))["params"]

    def run(params, x, t, cond, key=None, **options):
        if cond is not None and not conditional:
            raise PersonError(f"{type(module).__name__} takes no cond: give it num_classes > 0")
        if key is not None and not dropout:
            raise PersonError(f"{type(module).__name__} has no dropout: it takes no key")
        inputs = (x, t, cond) if conditional else (x, t)
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, *inputs, rngs=rngs, **options)

    def apply(params, x, t, cond=None, key=None):
        return jnp.asarray(run(params, x, t, cond, key), x.dtype)

    def features(params, x, t, cond=None):
        captured: dict = {"capture_intermediates": _is_part, "mutable": ["intermediates"]}
        output, state = run(params, x, t, cond, **captured)
        return jnp.asarray(output, x.dtype), _by_name(state["intermediates"], module)

    return Net(init, apply, features, dropout)


def _is_part(module: nn.Module, method: str) -> bool:
    return len(module.path) == 1 and method == "__call__"


def _by_name(captured: dict, module: nn.Module) -> dict[str, jax.Array]:
    """Return what flax has kept of each part, {name: {"__call__": (output, ..)}}, by name."""
    repeated = getattr(module, "repeated", {})
    found: dict[str, jax.Array] = {}
    for name, kept in captured.items():
        outputs = kept["__call__"]
        if name in repeated:
            outputs, name = list(outputs[0]), repeated[name]
        elif len(outputs) == 1:
            found[name] = outputs[0]
            continue
        found |= {f"{name}_{i}": output for i, output in enumerate(outputs)}
    return found


def check_sizes(name: str, /, least: int = 1, **sizes: int | tuple[int, ...]):
    """Raise a PersonError unless every size is a whole number, or several, from `least` up."""
    for what, size in sizes.items():
        each = size if isinstance(size, tuple) else (size,)
        if not each or not all(isinstance(n, int | np.integer) and n >= least for n in each):
            raise PersonError(f"{name}: {what} {size!r}: allowed are whole numbers from {least} up")


def check_picture(name: str, shape: tuple[int, ...], multiple: int = 1):
    """Raise a PersonError unless shape is (height, width, channels), sides divisible."""
    if len(shape) != 3 or min(shape) < 1 or shape[0] % multiple or shape[1] % multiple:
        raise PersonError(
            f"{name}: shape {shape}: need (height, width, channels), sides multiples of {multiple}"
        )


def num_params(params: Params) -> int:
    """Return the number of scalars in a parameter tree, also of its shapes (`jax.eval_shape`)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))

"""How a picture net is computed, apart from what it computes: dtype, memory, attention.

Every net here keeps float32 parameters. With `dtype="bfloat16"` products, convolutions and what
is kept for the backward pass are bfloat16; the features of the time, the statistics of norms, the
softmax of attention and the last layer stay float32.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dfx.errors import PersonError, choose
from dfx.nets import convolve

#: What the backward pass finds again by computing it a second time.
REMAT = {
    "none": "nothing: every intermediate result is kept",
    "block": "all inside a block: only the inputs of blocks are kept",
    "dots": "all but the results of linear maps and convolutions",
}

#: Who computes attention.
ATTENTION = {"xla": "any device and dtype", "cudnn": "cuDNN's fused kernel"}


def as_dtype(name: str, dtype: Any) -> Any:
    """Return a dtype given as such or by name, None as it is.

    Raises:
      PersonError: it is not a floating dtype.
    """
    if dtype is None:
        return None
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise PersonError(f"{name}: dtype {dtype!r}: allowed are float32, bfloat16, float16, None")
    return found


def at_least_float32(h):
    """Return h in float32, or as it is if wider."""
    return h.astype(jnp.promote_types(h.dtype, jnp.float32))


def check_compute(name: str, remat: str, attention: str, dtype: Any):
    """Raise a PersonError for an unknown choice, or cuDNN with a dtype it does not take."""
    choose(f"remat of {name}:", remat, REMAT)
    choose(f"attention of {name}:", attention, ATTENTION)
    if attention == "cudnn" and dtype not in (jnp.bfloat16, jnp.float16):
        raise PersonError(f"{name}: attention 'cudnn' needs dtype bfloat16 or float16, not {dtype}")


def rematerialised(block: type[nn.Module], remat: str) -> type[nn.Module]:
    """Return the class of blocks that keeps, for its backward pass, what `remat` says.

    Outputs and gradients are the same to rounding. "block" costs about one more forward pass;
    "dots" costs the norms and activations a second time, not the products.
    """
    if remat == "none":
        return block
    return nn.remat(block, policy=_is_linear_map if remat == "dots" else None)


def _is_linear_map(primitive, *_, **options) -> bool:
    """Whether this operation is a layer's product or convolution, not one between samples' own
    features (those of attention have batch axes, and grow with the square of the tokens)."""
    if primitive.name == "dot_general":
        return not options["dimension_numbers"][1][0]
    return primitive.name in ("conv_general_dilated", convolve.NAME)


def attend(q, k, v, implementation: Any = "xla"):
    """Return softmax(q k^T / sqrt(width)) v of each head, all of shape (n, T, heads, width).

    "xla" has derivatives of every kind and order, and is what JAX itself picks if not told;
    "cudnn" needs a GPU and half precision, never holds the T x T weights, and has a reverse
    derivative only: build the net again with "xla", on the same parameters, for Jacobian products.

    Raises:
      PersonError: "cudnn" without a GPU.
    """
    if implementation == "cudnn" and jax.default_backend() != "gpu":
        raise PersonError(f"attention 'cudnn' needs a GPU: this is {jax.default_backend()!r}")
    return jax.nn.dot_product_attention(q, k, v, implementation=implementation)

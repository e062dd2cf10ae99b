"""Convolution of pictures, with the kernel's gradient computed in the way that suits a CPU.

XLA on CPU takes the gradient of a 3x3 kernel as a convolution whose window is the whole picture,
at a fifth of the speed of the forward pass. Here it is one matrix product for every few pictures,
small enough for the cache:

    dk[i, j, c, o] = sum_{n, h, w} x[n, h + i - 1, w + j - 1, c] g[n, h, w, o]

with the three shifts j laid side by side in x, and the three shifts i in g, so that all nine are
the blocks of one (3 c_in, 3 c_out) product. The mathematics and every other derivative are those
of the plain convolution; on other devices nothing is changed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Pictures of fewer pixels are faster as XLA has them (7 x 7: 3 ms and 3.5; 14 x 14: 30 and 14).
_FEWEST_PIXELS = 100
# Thinner pictures, of one colour say, are as fast.
_FEWEST_CHANNELS = 8
# Pictures a product: one to four are alike, sixteen are slower by a third.
_BLOCK = 2


def convolve(x, kernel, stride: int = 1):
    """Return the convolution of pictures x (n, h, w, c_in) with kernel (s, s, c_in, c_out), s odd.

    Zeros are put around the pictures so that stride 1 keeps their size.
    """
    if stride == 1 and _in_blocks(x, kernel):
        return _convolve_by_blocks(x, kernel)
    return _convolve(x, kernel, stride)


def _in_blocks(x, kernel) -> bool:
    """Whether the kernel's gradient is taken block by block."""
    return (
        jax.default_backend() == "cpu"
        and len(kernel) in (1, 3)
        and x.shape[1] * x.shape[2] >= _FEWEST_PIXELS
        and min(kernel.shape[2:]) >= _FEWEST_CHANNELS
        and x.dtype in (jnp.float32, jnp.float64)
    )


def _convolve(x, kernel, stride=1):
    padding = 2 * [(len(kernel) // 2,) * 2]
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers
    )


@jax.custom_jvp
def _convolve_by_blocks(x, kernel):
    return _convolve(x, kernel)


def _jvp(primals, tangents):
    x, kernel = primals
    dx, dkernel = tangents
    out = _convolve_by_blocks(x, kernel)
    known = [
        _convolve_by_blocks(dx, kernel) if not _is_zero(dx) else None,
        _of_kernel(x, dkernel) if not _is_zero(dkernel) else None,
    ]
    change = [part for part in known if part is not None]
    return out, sum(change[1:], change[0]) if change else jnp.zeros_like(out)


_convolve_by_blocks.defjvp(_jvp, symbolic_zeros=True)


def _is_zero(tangent) -> bool:
    return type(tangent) is jax.custom_derivatives.SymbolicZero


def _of_kernel(x, kernel):
    """Return the convolution as a linear function of the kernel, made to be transposed."""
    block = _BLOCK if len(x) % _BLOCK == 0 else 1
    # Without the checkpoint the pictures side by side would be kept from the forward pass.
    product = jax.checkpoint(_product, prevent_cse=False)

    def body(_, pictures):
        return None, product(pictures, kernel)

    _, out = jax.lax.scan(body, None, x.reshape(-1, block, *x.shape[1:]))
    return out.reshape(*x.shape[:3], kernel.shape[-1])


def _product(x, kernel):
    """Return the convolution of a few pictures as one matrix product and s shifted sums."""
    size, _, channels, width = kernel.shape
    n, height, columns, _ = x.shape
    edge = size // 2
    x = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    shifted = jnp.concatenate([x[:, :, j : j + columns] for j in range(size)], axis=-1)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(size * channels, size * width)
    rows = shifted.reshape(-1, size * channels) @ matrix
    parts = jnp.split(rows.reshape(n, height + 2 * edge, columns, -1), size, axis=-1)
    return sum(part[:, i : i + height] for i, part in enumerate(parts))

"""What a training costs: images per second, model FLOP/s and their share of the peak, memory.

A `Meter` given to `fit` or `fit_feed` measures; the functions here say what a step should take.
One FLOP is one addition or one multiplication: a product of n x k by k x m matrices has 2 n k m.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from dfx.errors import PersonError
from dfx.nets import convolve

#: bf16 TFLOP/s of dense products as the makers list them, by a part of JAX's name of the device;
#: the first that fits counts. NVIDIA A100, H100 (PCIe, NVL, SXM) and H200 data sheets; Google Cloud
#: TPU documentation, pages v4 to v6e, per chip.
LISTED = {
    "a100": 312.0,
    "h100 pcie": 756.0,
    "h100 nvl": 835.0,
    "h100": 989.0,
    "h200": 989.0,
    "tpu v4": 275.0,
    "tpu v5 lite": 197.0,
    "tpu v5e": 197.0,
    "tpu v5": 459.0,
    "tpu v6": 918.0,
}


class Meter:
    """How fast a training is.

    Example:
      meter = Meter(batch_size, flop=product_flop(step, state, batch), peak=peak_flops()[0])
      state = fit(step, state, batch_fn, num_steps, on_chunk=lambda *_: print(meter.report()),
                  meter=meter)
    """

    def __init__(self, batch_size: int, flop: float | None = None, peak: float | None = None):
        """Start the clock.

        Args:
          batch_size: samples of a step, on all devices.
          flop: of a step, on all devices.
          peak: FLOP/s of all devices together; give `flop` too.

        Raises:
          PersonError: a number is not positive, or a peak is given alone.
        """
        for name, number in (("batch_size", batch_size), ("flop", flop), ("peak", peak)):
            if number is not None and not number > 0:
                raise PersonError(f"meter: {name} {number!r}: allowed are positive numbers")
        if peak is not None and flop is None:
            raise PersonError("meter: a peak without flop says nothing of utilisation")
        self.batch_size, self.flop, self.peak = batch_size, flop, peak
        self._begin = time.perf_counter()
        self._first: float | None = None
        self._chunks: list[tuple[int, float, float]] = []

    def add(self, steps: int, seconds: float, waited: float = 0.0) -> None:
        """Take in a chunk: its steps, its seconds, and those in which devices waited for data."""
        self._chunks.append((steps, seconds, waited))
        if self._first is None:
            self._first = time.perf_counter() - self._begin

    def report(self, last: int = 0) -> dict[str, float]:
        """Return the numbers by name; none before the first chunk.

        first_s: seconds from the making of the meter to the end of the first chunk, compilation
        included. images_per_s, step_s: without the first chunk (unless it is the only one) and
        without the time between chunks (saves, evaluation). waiting: the share of that time in
        which devices waited for data. flop_per_s and utilisation, if the meter knows flop and peak.
        memory_gib: see `memory_high_water`.

        Args:
          last: only so many of the newest chunks; 0 for all.
        """
        if self._first is None:
            return {}
        chunks = (self._chunks[1:] or self._chunks)[-last:]
        steps, seconds, waited = (sum(column) for column in zip(*chunks))
        rate = steps / max(seconds, 1e-9)
        found = {
            "first_s": self._first,
            "images_per_s": rate * self.batch_size,
            "step_s": 1.0 / rate,
            "waiting": waited / max(seconds, 1e-9),
            "memory_gib": memory_high_water() / 2**30,
        }
        if self.flop is not None:
            found["flop_per_s"] = rate * self.flop
        if self.flop is not None and self.peak is not None:
            found["utilisation"] = rate * self.flop / self.peak
        return found


def product_flop(function: Callable, *args: Any) -> float:
    """Return the FLOP of all matrix products and convolutions in `function(*args)`.

    Counted from the traced program, on all devices together; loops count as often as they run
    (`while` loops of unknown length once), branches as the longest. What remat computes again
    counts again: for model FLOP give a step without remat. Kernels that JAX knows by name alone
    (cuDNN attention, Pallas) count as nothing: give a step with the plain implementation.

    Args:
      function: pure, such as what `make_step` returned.
      args: its arguments, or their shapes: nothing is computed or compiled.
    """
    return _flop(jax.make_jaxpr(function)(*args).jaxpr)


def peak_flops(size: int = 4096) -> tuple[float, str]:
    """Return the peak FLOP/s of all devices together, and "listed" or "measured".

    Listed for bf16 products where the maker lists it (`LISTED`), else measured by `matmul_flops`.

    Args:
      size: of the measured product.
    """
    device = jax.devices()[0]
    kind = device.device_kind.lower()
    listed = next((peak for name, peak in LISTED.items() if name in kind), None)
    if listed is not None:
        return listed * 1e12 * jax.device_count(), "listed"
    return matmul_flops(size) * jax.device_count(), "measured"


def matmul_flops(size: int = 4096, dtype: Any = None, repeats: int = 5) -> float:
    """Return the FLOP/s of one device in a product of two square matrices, the best of `repeats`.

    Args:
      size: rows and columns.
      dtype: float32 on CPU and bfloat16 elsewhere by default.
    """
    on_cpu = jax.default_backend() == "cpu"
    dtype = dtype or (jnp.float32 if on_cpu else jnp.bfloat16)
    x = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        product(x, x).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 2.0 * size**3 / min(times)


def memory_high_water() -> int:
    """Return the most bytes that were in use so far on any device of this process.

    Where devices do not say (CPU), the most memory that the process has had.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found]
    if peaks:
        return max(peaks)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _flop(jaxpr: core.Jaxpr) -> float:
    """Return the FLOP of the products of a program and of those inside it."""
    return float(sum(_equation_flop(equation) for equation in jaxpr.eqns))


def _equation_flop(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, outputs = equation.invars[1].aval, params["dimension_numbers"].rhs_spec[0]
        taps = kernel.size / kernel.shape[outputs]
        # Dilating the input puts zeros between its entries: most taps see one.
        return 2.0 * equation.outvars[0].aval.size * taps / math.prod(params["lhs_dilation"])
    if name == convolve.NAME:
        *_, size, _, channels, _ = equation.invars[1].aval.shape
        return 2.0 * equation.outvars[0].aval.size * size**2 * channels
    if name == "cond":
        return max(_flop(branch.jaxpr) for branch in params["branches"])
    inside = sum(_flop(jaxpr) for value in params.values() for jaxpr in _programs(value))
    return inside * params.get("length", 1) if name == "scan" else inside


def _programs(value: Any) -> list[core.Jaxpr]:
    """Return the programs among the parameters of an operation."""
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    if isinstance(value, tuple | list):
        return [program for part in value for program in _programs(part)]
    return []

"""Input: pictures per second of every way in, beside what a training step takes.

`memory` draws batches from a set on the device, in compiled chunks of steps, as `train.fit` does;
`npy`, `array_record` and `folder` are feeds from files that are written here with random content
(pages of the disk cache: no disk is measured). `folder` holds JPEGs of 500 x 375 brought to 64.
Each call of a feed opens it anew, so nothing is counted that was read before.

    python -m benchmarks.input
    python -m benchmarks.input --steps 5 --repeats 2 --pictures 2000

The last case is one training step of a small DiT (28 x 28, width 128, 6 blocks) on `memory`;
`over_step` says how many times its pictures per second a way in delivers.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import measure_in_turn, num_cpus, report
from dfx import data, losses, nets, schedules, train

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
BATCH, SEED, JPEGS = 128, 0, 64
KEY = jax.random.key(SEED)


def draw(num_pictures: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return random pictures and labels."""
    rng = np.random.default_rng(SEED)
    return rng.integers(0, 256, (num_pictures, *shape), np.uint8), np.arange(num_pictures) % 10


def memory_batch(source, step):
    """Return the pictures of a step from a set on the device, mirrored and scaled."""
    images, _ = data.batch(source, KEY, step, BATCH)
    return data.to_unit(data.random_flip(jax.random.fold_in(KEY, step), images))


def from_memory(name: str, num_pictures: int, steps: int) -> Callable:
    """Return the call that draws `steps` batches on the device."""
    source = jax.tree.map(jnp.asarray, draw(num_pictures, SHAPES[name]))

    @jax.jit
    def run(source):
        # Every pixel is used, or the compiler would leave the gather out.
        start = jnp.zeros((BATCH, *SHAPES[name]))
        return jax.lax.fori_loop(0, steps, lambda i, sum_: sum_ + memory_batch(source, i), start)

    return lambda: run(source)


def from_feed(records: data.Records, steps: int, batch_size: int = BATCH) -> Callable:
    """Return the call that opens a feed, reads `steps` batches and drops those read ahead."""
    threads = num_cpus()
    feed = data.Feed(records, batch_size, KEY, threads=threads, ahead=threads)

    def read():
        with contextlib.closing(feed.from_step(0)) as batches:
            return [images for images, _ in itertools.islice(batches, steps)][-1]

    return read


def write_jpegs(folder: Path) -> None:
    """Write JPEGs of the usual size of ImageNet, smooth with some noise."""
    from PIL import Image

    rng = np.random.default_rng(SEED)
    rows, columns = np.mgrid[:375, :500]
    for number in range(JPEGS):
        smooth = np.stack([columns / 2, rows / 2, (rows + columns) / 4 + number], -1)
        pixels = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        place = folder / "train" / f"class{number % 2}" / f"{number}.JPEG"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place, quality=90)


def by_step() -> Callable:
    """Return the call of one training step of the small DiT."""
    net = nets.dit((28, 28, 1), width=128, depth=6, heads=4)
    schedule = schedules.RectifiedLinear()
    loss = losses.denoising(net, schedule, prediction="velocity")
    optimizer = train.optimizer(1e-4)
    step = jax.jit(train.make_step(loss, optimizer))
    state = train.init_state(net.init(KEY), optimizer, KEY)
    source = jax.tree.map(jnp.asarray, draw(1000, SHAPES["mnist"]))
    return lambda: step(state, memory_batch(source, state.step))[1]


def cases(folder: Path, num_pictures: int, steps: int) -> dict[str, tuple[int, Callable]]:
    """Return (pictures of a call, call) by name."""
    ways = {}
    for name, shape in SHAPES.items():
        arrays = draw(num_pictures, shape)
        data.write_npy_shards(folder / name, "train", *arrays, num_shards=4)
        count = BATCH * steps
        ways[f"{name} memory"] = count, from_memory(name, num_pictures, steps)
        ways[f"{name} npy"] = count, from_feed(data.npy_shards(folder / name), steps)
        if importlib.util.find_spec("array_record"):
            data.write_array_records(folder / name, "train", *arrays, num_shards=4)
            ways[f"{name} array_record"] = (
                count,
                from_feed(data.array_records(folder / name), steps),
            )
    write_jpegs(folder)
    pictures = data.picture_folder(folder, size=64)
    ways["jpeg folder"] = JPEGS, from_feed(pictures, 8, JPEGS // 8)
    ways["mnist step"] = BATCH, by_step()
    return ways


def main(argv: list[str] | None = None) -> None:
    """Measure all ways in turn and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=50, help="batches of 128 in a call")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    if min(args.pictures, args.steps, args.repeats) < 1:
        parser.error("numbers are 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        ways = cases(Path(folder), args.pictures, args.steps)
        found = measure_in_turn({name: call for name, (_, call) in ways.items()}, args.repeats)
    rate = {name: ways[name][0] / times["wall_s"] for name, times in found.items()}
    for name, times in found.items():
        over = rate[name] / rate["mnist step"]
        report("input", name, cpus=num_cpus(), pictures_per_s=rate[name], over_step=over, **times)


if __name__ == "__main__":
    main()

"""What the tests of `test_train_processes` run in processes of their own.

python train_children.py resume FOLDER DIE_AT RESULT [SAVE_EVERY]    (DIE_AT 0: live to the end)
python train_children.py devices FOLDER
python train_children.py meshes FOLDER
python train_children.py pair FOLDER RESULT [PORT INDEX]    (one process, or one of two)
"""

import functools
import os
import signal
import sys

import jax
import numpy as np
import train_toys as toys
from jax.sharding import NamedSharding, PartitionSpec

from dfx import train

NUM_STEPS, CHUNK = 60, 5


def resume(folder: str, die_at: int, result: str, save_every: int = 1) -> None:
    """Train with saves; die, unwarned, while that of step `die_at` is written (0: live on)."""
    optimizer, average = train.optimizer(0.02, clip=1.0), train.ema.power(2.0)
    ballast = {"large": jax.numpy.ones((512, 512))}  # a save that takes a while

    def loss(params, key, x, y):
        return toys.loss(params["small"], key, x, y)

    class Checkpoints(train.Checkpoints):
        def save(self, step, state):
            super().save(step, state)
            if step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    params = {"small": toys.params(), **ballast}
    start = train.init_state(params, optimizer, jax.random.key(5), average)
    checkpoints = Checkpoints(folder, "hash", warn=lambda line: print(line, flush=True))
    state = checkpoints.restore(start) or start
    print("from", int(state.step), flush=True)
    state = train.fit(
        train.make_step(loss, optimizer, average),
        state,
        toys.batch_fn,
        NUM_STEPS,
        CHUNK,
        on_chunk=lambda state, metrics, done: print("at", done, flush=True),
        data=toys.regression(),
        checkpoints=checkpoints,
        save_every=save_every,
    )
    np.savez(result, *toys.numbers(state))


def devices(folder: str) -> None:
    """Train 8 members on one device and on eight, saved on the one and restored on the other."""
    assert len(jax.devices()) == 8
    optimizer = train.optimizer(0.02)
    step = train.make_step(toys.loss, optimizer)
    states = train.stack([toys.state(optimizer, seed=i) for i in range(8)])
    data = train.stack([toys.regression(i) for i in range(8)])
    layouts = []

    def on_chunk(state, metrics, done):
        layouts.append({leaf.sharding for leaf in jax.tree.leaves(state)})

    def fit(state, num_steps, **settings):
        return train.fit(step, state, toys.batch_fn, num_steps, 10, on_chunk, data=data, **settings)

    one = fit(states, 30)
    layouts.clear()
    spread = train.spread(states, train.device_mesh())
    eight = fit(spread, 30, checkpoints=train.Checkpoints(f"{folder}/eight", "hash"))
    expected = {leaf.sharding for leaf in jax.tree.leaves(spread)}
    assert len(layouts) == 3 and all(layout == expected for layout in layouts)
    assert all(len(sharding.device_set) == 8 for sharding in expected)
    # float32 rounding of 30 steps
    toys.assert_close(eight, one, rtol=1e-5, atol=1e-6)

    half = fit(states, 20, checkpoints=train.Checkpoints(f"{folder}/one", "hash"))
    on_eight = train.Checkpoints(f"{folder}/one", "hash").restore(spread)
    toys.assert_same_bits(on_eight, half)
    assert {leaf.sharding for leaf in jax.tree.leaves(on_eight)} == expected
    toys.assert_close(fit(on_eight, 30), one, rtol=1e-5, atol=1e-6)
    on_one = train.Checkpoints(f"{folder}/eight", "hash").restore(states)
    toys.assert_same_bits(on_one, eight)
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(on_one))
    print("same")


def wide_step(slices=1):
    """Return a step, and the function of a key that makes its first state."""
    optimizer, average = train.optimizer(1e-2, clip=1.0), train.ema.power(2.0)

    def make_state(key):
        return train.init_state(toys.wide_params(), optimizer, key, average)

    step = train.make_step(
        toys.wide_loss, optimizer, average, slices, prepare=lambda b, key: (b[0] + 1.0, b[1])
    )
    return step, make_state


# Sums of float32 in another order, 12 steps apart.
ORDER = {"rtol": 2e-4, "atol": 2e-6}


def meshes(folder: str) -> None:
    """Train one net on one device and on eight: data parallel, fully sharded, and both."""
    assert len(jax.devices()) == 8
    data, key = toys.regression(), jax.random.key(3)
    for slices, sizes in ((1, (8, 1)), (1, (1, 8)), (2, (2, 4))):
        step, make_state = wide_step(slices)
        run = functools.partial(
            train.fit_feed, step, feed=toys.Feed(data, 32), num_steps=12, chunk=5
        )
        one, mesh = run(jax.jit(make_state)(key)), train.make_mesh(*sizes)
        assert train.check_batch(32, mesh, slices) == 32
        start = train.init_on(mesh, make_state, key, min_size=2**10)
        large, small = start.params["hidden"], start.params["out"]
        assert large.addressable_shards[0].data.size * sizes[1] == large.size
        assert small.is_fully_replicated
        assert start.ema["hidden"].sharding == large.sharding
        assert start.opt_state.inner[1].nu["hidden"].sharding == large.sharding
        found = run(start)
        assert found.params["hidden"].sharding == large.sharding
        toys.assert_close(found, one, **ORDER)
        toys.assert_close(train.fit(step, start, wide_batch, 12, 5, data=data), one, **ORDER)
        if sizes == (1, 8):
            half = run(start, num_steps=6, checkpoints=train.Checkpoints(f"{folder}/8", "hash"))
            go_on_elsewhere(f"{folder}/8", half, make_state(key), run, one)
            half = run(make_state(key), num_steps=6,
                       checkpoints=train.Checkpoints(f"{folder}/1", "hash"))  # fmt: skip
            go_on_elsewhere(f"{folder}/1", half, start, run, one)
            go_on_elsewhere(
                f"{folder}/1", half, train.move_to(train.make_mesh(4, 2), start), run, one
            )
    print("same")


def go_on_elsewhere(folder, saved, template, run, end) -> None:
    """Restore a checkpoint where the template lies, and train on to the known end."""
    back = train.Checkpoints(folder, "hash").restore(template)
    toys.assert_same_bits(back, saved)
    for here, there in zip(jax.tree.leaves(back), jax.tree.leaves(template)):
        assert here.sharding == there.sharding
    toys.assert_close(run(back), end, **ORDER)


def wide_batch(data, step):
    """The batches of `toys.Feed` with 32 samples."""
    index = (7 * jax.numpy.arange(32) + 5 * step) % toys.NUM_POINTS
    return data["x"][index], data["y"][index]


def pair(folder: str, result: str, port: str = "", index: str = "0") -> None:
    """Train on four devices of one process, or as one of two processes that have two each."""
    if port:
        train.start_processes(f"127.0.0.1:{port}", 2, int(index))
    assert len(jax.devices()) == 4
    (step, make_state), mesh, data = wide_step(), train.make_mesh(2, 2), toys.regression()
    start = train.init_on(mesh, make_state, jax.random.key(3), min_size=2**10)
    rows = train.local_rows(32, mesh)
    assert len(rows) == train.check_batch(32, mesh) == 32 // jax.process_count()
    checkpoints = train.Checkpoints(folder, "hash", warn=print)
    losses = []
    settings = {"checkpoints": checkpoints, "on_chunk": lambda s, m, n: losses.append(m["loss"])}
    train.fit_feed(step, start, toys.Feed(data, 32, rows), 6, 5, **settings)
    half = train.Checkpoints(folder, "hash", warn=print).restore(start)
    found = train.fit(step, half, wide_batch, 12, 5, data=data, **settings)
    everywhere = NamedSharding(mesh, PartitionSpec())
    whole = jax.jit(lambda tree: tree, out_shardings=everywhere)(found)
    if train.is_first():
        np.savez(result, np.concatenate(losses), *toys.numbers(whole))
    print("done", len(checkpoints.steps()))


if __name__ == "__main__":
    if sys.argv[1] == "resume":
        resume(sys.argv[2], int(sys.argv[3]), sys.argv[4], *map(int, sys.argv[5:]))
    else:
        {"devices": devices, "meshes": meshes, "pair": pair}[sys.argv[1]](*sys.argv[2:])

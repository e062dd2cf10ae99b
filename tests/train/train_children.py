"""What the tests of `test_train_processes` run in processes of their own.

    python train_children.py resume FOLDER DIE_AT RESULT    (DIE_AT 0: live to the end)
    python train_children.py devices FOLDER
"""

import os
import signal
import sys

import jax
import numpy as np
import train_toys as toys

from dfx import train

NUM_STEPS, CHUNK = 60, 5


def resume(folder: str, die_at: int, result: str) -> None:
    """Train with a save at every chunk; die, unwarned, while that of step `die_at` is written."""
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
        data=toys.regression(),
        checkpoints=checkpoints,
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


if __name__ == "__main__":
    if sys.argv[1] == "resume":
        resume(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        devices(sys.argv[2])

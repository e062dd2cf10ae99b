"""A classifier trained by a study to judge its samples by."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dfx import data, nets, train

BATCH_SIZE = 128
JUDGED_AT_ONCE = 500


def train_judge(
    run, train_set: data.Dataset, test_set: data.Dataset, num_steps: int, seed: int
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """Return the judge, pictures (n, h, w, c) in [-1, 1] -> class probabilities (n, k), and which
    pictures of the test set it gets right, bool.

    Args:
      run: the run folder, for progress and log.
      train_set: what it learns from.
      test_set: what it is tried on.
      num_steps: of Adam at rate 1e-3, batches of 128.
      seed: of its parameters and the order of the pictures.
    """
    judge = nets.classifier(train_set.images.shape[1:], train_set.num_classes)

    def loss(params, _, images, labels):
        logits = judge.apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), ()

    def batch(source, step):
        images, labels, order = source
        chosen = data.indices(order, step, BATCH_SIZE, len(images))
        return data.to_unit(images[chosen]), labels[chosen]

    params_key, key, order = jax.random.split(jax.random.key(seed), 3)
    optimizer = train.optimizer(1e-3, schedule="cosine", total=num_steps)
    state = train.init_state(judge.init(params_key), optimizer, key)
    with run.progress(num_steps, "train the judge") as bar:

        def on_chunk(state, metrics, done):
            run.log("judge", done, loss=metrics["loss"].mean())
            bar.update(len(metrics["loss"]), loss=metrics["loss"].mean())

        state = train.fit(
            train.make_step(loss, optimizer), state, batch, num_steps, 50, on_chunk,
            data=(train_set.images, train_set.labels, order),
        )  # fmt: skip

    probabilities = jax.jit(lambda x: jax.nn.softmax(judge.apply(state.params, x)))

    def classify(x: np.ndarray) -> np.ndarray:
        parts = [x[i : i + JUDGED_AT_ONCE] for i in range(0, len(x), JUDGED_AT_ONCE)]
        return np.concatenate([np.asarray(probabilities(jnp.asarray(part))) for part in parts])

    guesses = classify(data.to_unit(test_set.images)).argmax(axis=-1)
    return classify, guesses == test_set.labels

"""A classifier trained by a study to judge its samples by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dfx import data, nets, train
from experiments.shared.parameters import flatten, unflatten

BATCH_SIZE = 128
JUDGED_AT_ONCE = 500
STAGE = "judge"


class Judge(NamedTuple):
    """A trained classifier of pictures (n, h, w, c) in [-1, 1].

    classify: pictures -> class probabilities (n, k). features: pictures -> what the last layer
    sees, (n, f). right: which pictures of the test set it gets right, bool.
    """

    classify: Callable[[np.ndarray], np.ndarray]
    features: Callable[[np.ndarray], np.ndarray]
    right: np.ndarray


def train_judge(
    run,
    train_set: data.Dataset,
    test_set: data.Dataset,
    num_steps: int,
    seed: int,
    width: int = 16,
    num_features: int = 128,
) -> Judge:
    """Return the judge, from the run folder (stage "judge") if it is there.

    Args:
      run: the run folder, for parameters, progress and log.
      train_set: what it learns from.
      test_set: what it is tried on.
      num_steps: of Adam at rate 1e-3, batches of 128.
      seed: of its parameters and the order of the pictures.
      width, num_features: of `nets.classifier`.
    """
    net = nets.classifier(train_set.images.shape[1:], train_set.num_classes, width, num_features)
    params_key, key, order = jax.random.split(jax.random.key(seed), 3)

    def compute():
        first = net.init(params_key)
        params = _fit(run, net, first, key, (train_set.images, train_set.labels, order), num_steps)
        guesses = _judge(net, params, np.zeros(0)).classify(data.to_unit(test_set.images))
        return flatten(params) | {"right": guesses.argmax(axis=-1) == test_set.labels}

    kept = run.arrays(STAGE, compute)
    params = unflatten(jax.eval_shape(net.init, params_key), kept)
    return _judge(net, params, kept["right"])


def _fit(run, net: nets.Classifier, params, key, source, num_steps: int):
    """Return the trained parameters."""

    def loss(params, _, images, labels):
        logits = net.apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), ()

    def batch(source, step):
        images, labels, order = source
        chosen = data.indices(order, step, BATCH_SIZE, len(images))
        return data.to_unit(images[chosen]), labels[chosen]

    optimizer = train.optimizer(1e-3, schedule="cosine", total=num_steps)
    state = train.init_state(params, optimizer, key)
    with run.progress(num_steps, "train the judge") as bar:

        def on_chunk(state, metrics, done):
            run.log(STAGE, done, loss=metrics["loss"].mean())
            bar.update(len(metrics["loss"]), loss=metrics["loss"].mean())

        step = train.make_step(loss, optimizer)
        return train.fit(step, state, batch, num_steps, 50, on_chunk, data=source).params


def _judge(net: nets.Classifier, params, right: np.ndarray) -> Judge:
    classify, features = (in_parts(f, params, JUDGED_AT_ONCE) for f in _compiled(net))
    return Judge(classify, features, right)


@functools.cache
def _compiled(net: nets.Classifier) -> tuple[Callable, Callable]:
    classify = jax.jit(lambda params, x: jax.nn.softmax(net.apply(params, x)))
    return classify, jax.jit(net.features)


def in_parts(function: Callable, params, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return function(params, pictures) as one of pictures, `size` at once, the last part filled
    up."""
    params = jax.tree.map(jnp.asarray, params)

    def apply(x: np.ndarray) -> np.ndarray:
        found = []
        for i in range(0, len(x), size):
            part = x[i : i + size]
            missing = min(size, len(x)) - len(part)
            filled = np.concatenate([part, np.zeros((missing, *x.shape[1:]), x.dtype)])
            found.append(np.asarray(function(params, filled))[: len(part)])
        return np.concatenate(found)

    return apply

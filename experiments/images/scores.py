"""What is said of a set of pictures: real ones, those of a net, those of a law that is known.

All are judged alike, as pixels: by the features and classes of the judge, and by their distance to
the training pictures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dfx import data, metrics
from dfx.moments import Moments, moments, split
from experiments.images import data as images_data
from experiments.images.data import Pictures
from experiments.images.inception import Inception, open_inception
from experiments.shared.judge import Judge, train_judge

#: Most pictures of a split that are held for comparison: all of MNIST and of CIFAR-10.
HELD = 60_000
GROUPS = 8  # of the jackknife


class Jury(NamedTuple):
    """What pictures are compared with.

    train, test: pixels (n, h, w, c). judge: with `moments` and `features` of what it sees in all
    training pictures and in some; None if samples are not judged. inception: None if its weights
    are not at hand.
    """

    train: np.ndarray
    test: np.ndarray
    judge: Judge | None
    moments: Moments | None
    features: np.ndarray | None
    inception: Inception | None = None


def call_jury(config, run, pictures: Pictures) -> Jury:
    """Return the jury; its judge is trained, or taken from the run folder."""
    sets = [images_data.some(r, HELD, config.seed) for r in (pictures.train, pictures.test)]
    published = open_inception(config)
    if "judge" not in config.evaluation.parts:
        return Jury(sets[0][0], sets[1][0], None, None, None, inception=published)
    settings, named = config.judge, config.data
    train_set, test_set = (
        data.Dataset(images, labels, named.name, named.num_classes) for images, labels in sets
    )
    judge = train_judge(
        run, train_set, test_set, settings.num_steps, config.seed + 4, settings.width,
        settings.num_features,
    )  # fmt: skip
    features = judge.features(data.to_unit(train_set.images))
    some = features[chosen(config, len(features))]
    return Jury(train_set.images, test_set.images, judge, moments(features), some, published)


def chosen(config, count: int) -> np.ndarray:
    """Return as many random rows of `count` as samples are judged (all, if there are fewer)."""
    return np.random.default_rng(config.seed + 5).permutation(count)[: config.evaluation.samples]


def score(config, jury: Jury, pixels: np.ndarray) -> dict[str, Any]:
    """Return what is said of pictures (n, h, w, c) uint8.

    shown: the first of them. frechet, frechet_limit, precision, recall, density, coverage: values
    with standard errors, (2,); fid, fid_limit: the same in Inception's features. probabilities: of
    the classes, (n, k). distance, ratio: to the nearest training picture, and of it to the second,
    (n,); nearest: those of the shown.
    """
    shown = pixels[: config.evaluation.shown]
    found: dict[str, Any] = {"shown": shown, "count": len(pixels)}
    if jury.judge is not None and jury.moments is not None:
        units = data.to_unit(pixels)
        features = jury.judge.features(units)
        found |= {"probabilities": jury.judge.classify(units)}
        found |= _feature_scores(features, jury.moments, jury.features)
    if jury.inception is not None:
        seen = split(jury.inception.features(pixels), GROUPS)
        fid = metrics.frechet_estimate(seen, jury.inception.reference)
        found |= {"fid": np.array(fid.distance), "fid_limit": np.array(fid.limit)}
    if "neighbours" in config.evaluation.parts:
        near = metrics.nearness(pixels, jury.train)
        found |= {"distance": near.distance, "ratio": near.ratio}
        found |= {"nearest": jury.train[near.row[: len(shown)]]}
    return found


def _feature_scores(features, reference: Moments, some) -> dict[str, np.ndarray]:
    """Return the distances and shares in the judge's features."""
    frechet = metrics.frechet_estimate(split(features, GROUPS), reference)
    shares = metrics.precision_recall(some, features)._asdict()
    shares |= metrics.density_coverage(some, features)._asdict()
    shares |= {"frechet": frechet.distance, "frechet_limit": frechet.limit}
    return {name: np.array(value) for name, value in shares.items()}

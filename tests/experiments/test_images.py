"""The image study's own work: its sizes, its pictures, its stops, its measures, its recipes."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from analysis.images import claims, figures
from configs import images as configs
from dfx import data, fields, nets, recipes, targets, train
from dfx.errors import PersonError
from dfx.runs.config import from_plain
from experiments.images import check, inception, references, scores, training
from experiments.images import data as images_data
from experiments.images import losses as images_losses
from experiments.images.trainer import is_due, make_batches, next_end


def changed(size="digits_smoke", **settings):
    """The config of a size, with settings changed; dots are double underscores."""
    config = configs.get_config(size)
    for name, value in settings.items():
        *groups, last = name.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
    return from_plain(config)


@pytest.fixture(scope="module")
def pictures():
    return images_data.open_pictures(changed())


def test_the_names_that_every_study_has_are_the_digits_and_mnist():
    assert configs.get_config("smoke") == configs.get_config("digits_smoke")
    assert configs.get_config() == configs.get_config("mnist")
    assert set(configs.SIZES) == {*configs.SAME, *configs._CHANGES}


@pytest.mark.parametrize("size", configs.SIZES)
def test_what_is_judged_comes_in_whole_batches_that_many_devices_can_share(size):
    config = configs.get_config(size)
    batch, devices = config.evaluation.batch, 256 if "imagenet" in size else 8
    assert config.evaluation.samples % batch == 0 and config.evaluation.held_out % batch == 0
    assert batch % devices == 0 and config.train.batch_size % devices == 0
    assert config.evaluation.ema in training.make_averages(config)


@pytest.mark.parametrize(
    ("size", "recipe"), [("cifar10_edm", "edm"), ("imagenet256_sit_xl", "sit")]
)
def test_published_sizes_train_as_their_papers_did(size, recipe):
    config, paper = configs.get_config(size), recipes.make(recipe).training
    settings = config.train
    assert (config.recipe, settings.batch_size) == (recipe, paper.batch_size)
    assert settings.learning_rate == paper.learning_rate
    # Steps are whole numbers.
    assert settings.num_steps * settings.batch_size == pytest.approx(paper.images, rel=1e-3)
    assert abs(settings.warmup * settings.batch_size - paper.warmup) <= settings.batch_size
    assert config.ema.half_lives[0] == pytest.approx(paper.half_life, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"recipe": "edn"}, "config.recipe: unknown value 'edn': did you mean 'edm'?"),
        ({"net__name": "dti"}, "config.net.name: unknown value 'dti': did you mean 'dit'?"),
        ({"net__width": 33}, "width 33 must be a multiple of heads 2"),
        (
            {"train__slices": 5},
            "config.train.slices: given 5, allowed: a divisor of train.batch_size",
        ),
        ({"train__warmup": 61}, "config.train.warmup: given 61, allowed: at most train.num_steps"),
        ({"train__nonfinite": "ignore"}, "config.train.nonfinite: unknown value 'ignore'"),
        ({"train__learning_rate": 0.0}, "config.train.learning_rate: given 0.0"),
        ({"mesh__fsdp": 3}, "mesh of data -1 x fsdp 3"),
        ({"evaluation__ema": "0.2"}, "unknown average config.evaluation.ema: '0.2'"),
        ({"evaluation__solver": "huen"}, "config.evaluation.solver: unknown value 'huen'"),
        ({"evaluation__num_steps": 10**6}, "config.evaluation.num_steps: given 1000000, allowed"),
        ({"evaluation__num_steps": 10**18}, "config.evaluation.num_steps: given"),
        (
            {"train__batch_size": 2**25},
            "config.train.batch_size: given 33554432, allowed: a number",
        ),
        ({"train__num_steps": 10**20}, "config.train.num_steps: given 1"),
        (
            {"train__num_steps": 2**31},
            "config.train.num_steps: given 2147483648, allowed: a number",
        ),
        ({"train__warmup": 2**31}, "config.train.warmup: given 2147483648, allowed: a number"),
        ({"ema__half_lives": (1e300,)}, "config.ema.half_lives: given (1e+300,), allowed"),
        ({"evaluation__samples": 100}, "config.evaluation.samples: given 100, allowed: multiples"),
        ({"ema__snapshot_every": 0}, "config.ema.posthoc"),
        ({"data__name": "mnits"}, "config.data.name: unknown value 'mnits': did you mean 'mnist'?"),
        ({"data__test_split": "tes"}, "config.data.test_split: unknown value 'tes': did you mean"),
        ({"data__latents": True}, "needs pixels, and the data are latents"),
        ({"data__kind": "npz"}, "config.data.kind: unknown value 'npz'"),
        ({"labels__dropout": 1.5}, "config.labels.dropout: given 1.5"),
        ({"ema__posthoc": (0.0,)}, "config.ema.posthoc: given (0.0,), allowed: a number above 0"),
        ({"ema__posthoc": (0.5,)}, "config.ema.posthoc: given (0.5,), allowed: a number from"),
        ({"ema__posthoc": (0.1, "abc")}, "config.ema.posthoc: given (0.1, 'abc'), allowed"),
        ({"ema__posthoc": ("abc",)}, "config.ema.posthoc: given ('abc',), allowed"),
        (
            {"evaluation__batch": 512, "evaluation__samples": 512, "evaluation__held_out": 512},
            "config.evaluation.batch: given 512, allowed: at most the 359 pictures",
        ),
        ({"labels__use": True, "data__num_classes": 9}, "config.data.num_classes: given 9"),
        ({"data__num_classes": 9}, "config.data.num_classes: given 9, allowed: the 10 classes"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_runs(settings, line, tmp_path):
    if "data__kind" in settings:
        settings = settings | {"data__path": str(tmp_path)}
    with pytest.raises(PersonError) as error:
        configs.validate(changed(**settings))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_the_smallest_size_passes_its_own_checks():
    configs.validate(changed())
    check.check(changed(recipe="sit", evaluation__solver="flow_heun"))


@pytest.mark.parametrize("kind", ["npy", "folder"])
def test_classes_of_pictures_on_disk_are_counted_too(kind, tmp_path, pictures):
    images, labels = pictures.train.take(np.arange(100))
    for split in ("train", "test"):
        if kind == "npy":
            data.write_npy_shards(tmp_path, split, images, labels)
        else:
            for i in range(len(images)):
                (tmp_path / split / f"{labels[i]}").mkdir(parents=True, exist_ok=True)
                picture = Image.fromarray(images[i, :, :, 0])
                picture.save(tmp_path / split / f"{labels[i]}" / f"{i}.png")
    settings = {"data__kind": kind, "data__path": str(tmp_path), "labels__use": True}
    config = changed(**settings, data__channels=1, data__size=8)
    assert images_data.open_pictures(config).num_classes == 10
    assert configs.fingerprint(config).startswith("digits ")
    with pytest.raises(PersonError, match="given 9, allowed: the 10 classes of 'digits', or more"):
        images_data.open_pictures(changed(**settings, data__channels=1, data__num_classes=9))


def test_pixels_survive_the_way_to_numbers_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    for dequantise in (True, False):
        config = changed(data__dequantise=dequantise)
        x = images_data.to_numbers(config, jnp.asarray(pixels), jax.random.key(0))
        np.testing.assert_array_equal(images_data.to_pixels(config, np.asarray(x)), pixels)
        assert x.min() >= -1 and x.max() <= 1


def test_batches_are_mirrored_and_lose_labels_as_often_as_asked():
    config = changed(labels__use=True, labels__dropout=0.25, data__flip=True)
    images = jnp.zeros((4000, 2, 2, 1), jnp.uint8).at[:, :, 0].set(255)
    x0, labels = images_data.make_prepare(config)(
        (images, jnp.zeros(4000, jnp.int32)), jax.random.key(0)
    )
    assert set(np.unique(labels)) == {0, 10}  # 10 is the null class
    mirrored = np.asarray(x0[:, 0, 0, 0] < 0)
    # Four standard errors.
    assert abs(np.mean(labels == 10) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    assert abs(mirrored.mean() - 0.5) < 4 * (0.25 / 4000) ** 0.5


def test_latents_are_drawn_from_their_moments():
    config = changed(data__latents=True, data__latent_scale=0.5)
    moments = jnp.concatenate([jnp.full((1, 64, 64, 4), 3.0), jnp.full((1, 64, 64, 4), 2.0)], -1)
    x0 = images_data.to_numbers(config, moments, jax.random.key(0))
    # Four standard errors of a mean and of a standard deviation of 16,384 numbers.
    assert abs(x0.mean() - 1.5) < 4 * 1.0 / 128
    assert abs(x0.std() - 1.0) < 4 * 1.0 / 181


def test_batches_are_those_of_the_library(pictures):
    columns, order = pictures.train.take(np.arange(100)), jax.random.key(3)
    found = make_batches(8)((columns, order), 5)
    for ours, theirs in zip(found, data.batch(columns, order, 5, 8), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_training_stops_where_something_is_due():
    config = changed(evaluation__every=40, ema__snapshot_every=25, train__num_steps=110)
    stops, done = [], 0
    while done < 110:
        done = next_end(config, done)
        stops.append(done)
    assert stops == [25, 40, 50, 75, 80, 100, 110]
    timed = changed(evaluation__every=40, ema__snapshot_every=0, train__minutes=1.0)
    assert next_end(timed, 0) == timed.train.save_every  # to look at the clock
    assert [n for n in range(9) if is_due(n, 4)] == [4, 8] and not is_due(4, 0)


def test_averages_have_the_half_lives_asked_for_in_images():
    config = changed(ema__half_lives=(640.0,), train__batch_size=64)
    average = training.make_averages(config)["half_640"]
    value = average.init(jnp.ones(()))
    for done in range(1, 11):
        value = average.update(value, jnp.zeros(()), done)
    assert value == pytest.approx(0.5, rel=1e-5)  # ten steps of 64 are one half-life


@pytest.mark.slow
def test_linear_denoiser_leaves_the_variance_that_the_floors_say(pictures):
    config = changed(evaluation__held_out=640, evaluation__parts=("loss",))
    mesh, recipe = train.make_mesh(devices=jax.devices()[:1]), recipes.make("edm")
    x0 = np.asarray(images_data.to_numbers(config, pictures.train.take(np.arange(1438))[0],
                    jax.random.key(0)))  # fmt: skip
    gaussian = references.fit_gaussian(x0)
    field = fields.flattened(fields.oracle(gaussian))
    found = images_losses.measure(
        config, recipe, recipe.exact, field, lambda _: field, pictures, mesh
    )
    v, levels = references.principal_variances(gaussian), images_losses.noise_levels(config)
    # Its error depends on mean and covariance alone, and they are those of these pictures, of which
    # random ones are looked at.
    value, error = found["errors_train"]
    floor = (v[:, None] * levels**2 / (v[:, None] + levels**2)).mean(0)
    np.testing.assert_array_less(np.abs(value - floor), 4 * error)
    value, error = found["loss_train"]
    assert abs(value - recipes.gaussian_loss(recipe, v)) < 4 * error


def test_bits_of_a_gaussian_are_its_entropy_over_the_cell():
    config = changed(data__name="digits")
    rng = np.random.default_rng(0)
    test = rng.integers(0, 256, size=(4000, 2, 2, 1)).astype(np.uint8)
    std = 2 / 12**0.5  # of numbers that fill [-1, 1] evenly
    gaussian = targets.fit.gaussian(rng.normal(size=(4000, 4)) * std)
    jury = scores.Jury(test, test, None, None, None)
    bits, error = references.gaussian_bits(config, gaussian, jury)["bits"]
    expected = 0.5 * np.log2(2 * np.pi * np.e * std**2) - np.log2(2 / 256)
    # Four standard errors, and as much of the fit's own.
    assert abs(bits - expected) < 8 * error


def fake_jury(train_pixels):
    """A jury whose judge looks at nine fixed projections, and is sure of class 1."""
    weights = np.random.default_rng(1).normal(size=(train_pixels[0].size, 9))

    def features(x):
        return np.reshape(x, (len(x), -1)) @ weights

    def classify(x):
        return np.tile([0.05, 0.95], (len(x), 1))

    judge = types.SimpleNamespace(classify=classify, features=features, right=np.ones(3, bool))
    seen = features(data.to_unit(train_pixels))
    return scores.Jury(train_pixels, train_pixels, judge, scores.moments(seen), seen[:128])


def test_training_pictures_are_copies_and_lie_on_the_training_set(pictures):
    train_pixels = pictures.train.take(np.arange(1000))[0]
    jury, config = fake_jury(train_pixels), changed()
    found = scores.score(config, jury, train_pixels[:512])
    assert np.all(found["ratio"] == 0) and np.all(found["distance"] == 0)
    np.testing.assert_array_equal(found["nearest"], found["shown"])
    assert found["recall"][0] == 1 and found["precision"][0] > 0.8
    # The limit has no bias left: four standard errors.
    assert abs(found["frechet_limit"][0]) < 4 * found["frechet_limit"][1]
    noise = np.random.default_rng(2).integers(0, 256, (512, 8, 8, 1)).astype(np.uint8)
    other = scores.score(config, jury, noise)
    assert other["frechet_limit"][0] > 100 * found["frechet_limit"][1]
    assert other["ratio"].min() > 0.5 and other["coverage"][0] < found["coverage"][0]


@pytest.fixture(scope="module")
def inception_files(tmp_path_factory):
    """A folder with weights that are all 0, and reference statistics."""
    folder = tmp_path_factory.mktemp("inception")
    zeros = {
        name: np.zeros(shape, np.float32) for name, shape in nets.inception.array_shapes().items()
    }
    np.savez_compressed(folder / "weights.npz", **zeros)
    np.savez_compressed(folder / "reference.npz", mu=np.ones(2048), sigma=np.eye(2048))
    np.savez(folder / "other.npz", mu=np.ones(64), sigma=np.eye(64))
    return folder


def with_inception(folder, weights="weights.npz", reference="reference.npz", **settings):
    settings |= {"inception__weights": weights, "inception__reference": reference}
    return changed(data__path=str(folder), **settings)


def test_inception_is_read_from_where_the_data_lie_or_from_anywhere(
    inception_files, tmp_path, monkeypatch
):
    monkeypatch.setattr(inception, "AT_ONCE", 2)
    assert inception.open_inception(changed()) is None
    found = inception.open_inception(with_inception(inception_files))
    np.testing.assert_array_equal(found.reference.covariance(ddof=1), np.eye(2048))
    # Weights of 0 see nothing; more pictures than are looked at at once.
    seen = found.features(np.full((3, 8, 8, 1), 9, np.uint8))
    np.testing.assert_array_equal(seen, np.zeros((3, 2048)))
    names = (str(inception_files / name) for name in ("weights.npz", "reference.npz"))
    away = with_inception(tmp_path, *names)
    assert inception.paths(away) == inception.paths(with_inception(inception_files))


def test_a_run_is_one_of_its_inception_files(inception_files):
    first, other = with_inception(inception_files), with_inception(inception_files, "other.npz")
    assert configs.fingerprint(first) != configs.fingerprint(other)
    assert configs.fingerprint(first).startswith("inception ")  # the digits need no file
    assert configs.fingerprint(changed()) == ""


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"reference": ""}, "config.inception.reference = '': allowed are both or neither"),
        ({"weights": "gone.npz"}, "gone.npz: cannot be read"),
        ({"weights": "other.npz"}, "no weights"),
        ({"reference": "other.npz"}, "statistics of 64 features, allowed: 2048"),
        ({"data__latents": True, "evaluation__parts": ("samples",)}, "needs pixels"),
        ({"evaluation__batch": 8, "evaluation__samples": 8}, "samples: given 8, allowed: 16 or"),
    ],
)
def test_inception_that_cannot_be_used_is_refused_in_one_line(inception_files, settings, line):
    with pytest.raises(PersonError) as error:
        configs.validate(with_inception(inception_files, **settings))
    assert line in str(error.value) and "\n" not in str(error.value)


def test_fid_is_the_distance_of_inceptions_features_to_the_reference(pictures):
    pixels, config = pictures.train.take(np.arange(1024))[0], changed()
    judged = fake_jury(pixels)
    reference = scores.moments(judged.judge.features(data.to_unit(pixels)))
    sees = inception.Inception(lambda x: judged.judge.features(data.to_unit(x)), reference)
    found = scores.score(config, judged._replace(judge=None, inception=sees), pixels[:512])
    both = scores.score(config, judged._replace(moments=reference, inception=sees), pixels[:512])
    for name in ("", "_limit"):
        np.testing.assert_array_equal(found[f"fid{name}"], both[f"frechet{name}"])
    assert "frechet" not in found and found["fid"].shape == (2,)


def test_fids_stand_beside_those_that_the_paper_prints():
    def found(size, value, count=50_000):
        run = types.SimpleNamespace(config=changed(size))
        judged = types.SimpleNamespace(last={"fid": np.array([value, 0.01]), "count": count})
        judged.references = {"gaussian": {"fid": np.array([100.0, 1.0])}}
        return claims.fid_claims(run, judged)

    ours, plain, conditional = found("cifar10_edm", 2.0)
    assert (ours.ours, ours.verdict) == (0.02, "holds")
    assert (plain.paper_value, plain.ours, plain.verdict) == ("1.97", 2.0, "holds")
    assert (conditional.paper_value, conditional.verdict) == ("1.79", "fails")
    assert found("cifar10_edm", 2.07)[1].verdict == "undecided"  # 1.05 times 1.97 is within it
    assert len(found("cifar10_edm", 2.0, count=10_000)) == 1  # has more bias than the paper's
    assert len(found("imagenet64_edm", 2.0)) == 2 and len(found("digits_smoke", 2.0)) == 1


def test_copies_are_counted_beyond_those_among_real_pictures():
    def judged(copies, chance):
        ratios = [np.where(np.arange(1000) < n, 0.1, 0.9) for n in (copies, chance)]
        found = types.SimpleNamespace(last={"ratio": ratios[0]})
        found.references = {"real": {"ratio": ratios[1]}}
        return claims.copies_claim(found)

    assert judged(5, 5).ours == 0 and judged(5, 5).verdict == "holds"
    assert judged(100, 5).ours == pytest.approx(0.095) and judged(100, 5).verdict == "fails"


def test_difference_of_shares_is_newcombes():
    # The example of the paper, 56 of 70 and 48 of 80: 0.2 within 0.0524 and 0.3339.
    hits, others = np.arange(70) < 56, np.arange(80) < 48
    np.testing.assert_allclose(claims.difference(hits, others), (0.2, 0.0524, 0.3339), atol=5e-5)
    assert claims.difference(hits[56:], others[48:])[2] > 0.05  # none of few is not never


def test_ratio_of_estimates_has_the_error_of_both():
    claim = claims.ratio_claim((0.5, 0.03), (1.0, 0.08), "1", "a")
    error = 0.5 * np.hypot(0.06, 0.08)
    assert (claim.ours, claim.high) == pytest.approx((0.5, 0.5 + 1.96 * error))
    assert claim.verdict == "holds"


def test_running_mean_is_over_the_last_tenth():
    values = np.arange(100.0)
    np.testing.assert_allclose(figures.smooth(values)[-1], np.arange(90, 100).mean())
    np.testing.assert_allclose(figures.smooth(values)[0], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.REGISTRY)
def test_every_recipe_learns_more_than_the_best_constant(name, pictures):
    recipe, steps = recipes.make(name), 200
    x0 = data.to_unit(pictures.train.take(np.arange(1438))[0]).reshape(-1, 64)
    net = nets.residual_mlp(64, width=64, depth=1)
    optimizer = train.optimizer(3e-3, warmup=20, schedule="cosine", total=steps, clip=1.0)
    state = train.init_state(net.init(jax.random.key(0)), optimizer, jax.random.key(1))

    def batch(source, step):
        return source[data.indices(jax.random.key(2), step, 64, len(x0))]

    step = train.make_step(recipe.loss(net), optimizer)
    state = train.fit(step, state, batch, steps, 50, data=x0)
    rng = np.random.default_rng(3)
    t = recipe.time_sampler.quantile((rng.permutation(len(x0)) + 0.5).astype(np.float32) / len(x0))
    eps = rng.normal(size=x0.shape).astype(np.float32)
    losses = np.asarray(jax.jit(recipe.errors(net))(state.params, x0, eps, t))
    error = losses.std() / np.sqrt(len(losses))
    assert losses.mean() + 4 * error < recipes.constant_loss(recipe, x0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [s for s in configs._CHANGES if s not in configs.SAME.values()])
def test_the_step_of_every_size_fits_together(size):
    config = configs.get_config(size)
    if config.net.name.startswith("edm_"):  # as deep a net takes a while to trace
        config.net.blocks = 1
    config = from_plain(config)
    latents, shape = config.data.latents, (config.data.size,) * 2 + (config.data.channels,)
    shape = (32, 32, 3) if config.data.name == "cifar10" else shape
    row = np.zeros((1, 32, 32, 8), np.float32) if latents else np.zeros(
        (1, *shape), np.uint8)  # fmt: skip
    records = data.HostArrays((row, np.zeros(1, np.int32)))
    seen = (32, 32, 4) if latents else row.shape[1:]
    classes = config.data.num_classes if config.labels.use else 0
    pictures = images_data.Pictures(records, records, seen, classes, labelled=True)
    parts = training.make_parts(config, pictures)
    state = jax.eval_shape(parts.make_state, jax.random.key(0))
    after, metrics = jax.eval_shape(parts.step, state, parts.batch)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )
    assert metrics["loss"].shape == () and metrics["loss"].dtype == jnp.float32

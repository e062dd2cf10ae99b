"""Averages made of stored ones, against the averages taken along the run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import train_toys as toys

from dfx import train
from dfx.errors import PersonError
from dfx.train import ema, posthoc

STEPS, EVERY = 1000, 50
STORED = (0.05, 0.10)


def profile(s, time, gamma):
    """The weight of time s in the average that ends at `time`."""
    return np.where(s <= time, (gamma + 1.0) * s**gamma / time ** (gamma + 1.0), 0.0)


@pytest.mark.parametrize(
    ("time", "gamma", "other_time", "other_gamma"),
    [(1.0, 0.0, 1.0, 0.0), (2.0, 3.5, 5.0, 1.0), (5.0, 1.0, 2.0, 3.5), (3.0, 6.94, 3.0, 16.97)],
)
def test_overlap_is_the_integral_of_the_product_of_two_profiles(
    time, gamma, other_time, other_gamma
):
    points, factors = np.polynomial.legendre.leggauss(40)
    end = min(time, other_time)  # the integrand is smooth up to there and zero beyond
    s = 0.5 * end * (points + 1.0)
    product = profile(s, time, gamma) * profile(s, other_time, other_gamma)
    found = posthoc.overlap(time, gamma, other_time, other_gamma)
    np.testing.assert_allclose(found, 0.5 * end * factors @ product, rtol=1e-10)  # quadrature


def test_stored_profile_is_its_own_combination():
    times, gammas = [10.0, 20.0, 20.0], [3.0, 3.0, 9.0]
    found, error = posthoc.weights(times, gammas, 20.0, 9.0)
    np.testing.assert_allclose(found, [0.0, 0.0, 1.0], atol=1e-10)
    assert error < 1e-6  # the root of a float64 cancellation


def test_weights_sum_to_one_also_where_the_profile_is_out_of_reach():
    found, error = posthoc.weights([10.0, 20.0], [16.97, 16.97], 20.0, 0.5)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-12)
    assert error > 0.3


@pytest.fixture(scope="module")
def run():
    """Parameters along a run, their stored averages, and the averages themselves."""
    with jax.enable_x64(True):
        noise = np.random.default_rng(0).normal(size=(STEPS, 2))
        path = np.cumsum(noise, axis=0) / STEPS**0.5 + noise  # it drifts, and it jitters
        widths = (*STORED, 0.04, 0.075, 0.15, 0.20)
        averages = {f"{w:g}": ema.power(sigma_rel=w) for w in widths}
        every = ema.several(averages)

        def body(value, pair):
            value = every.update(value, *pair)
            return value, value.averages

        steps = jnp.arange(1, STEPS + 1)
        seen = jax.lax.scan(body, every.init(jnp.zeros(2)), (jnp.asarray(path), steps))[1]
        return path, {name: np.asarray(values) for name, values in seen.items()}


@pytest.mark.parametrize("width", [0.04, 0.05, 0.075, 0.10, 0.15, 0.20])
def test_average_made_of_stored_ones_is_the_one_taken_along_the_run(run, width):
    path, seen = run
    stored = [(t, w) for t in range(EVERY, STEPS + 1, EVERY) for w in STORED]
    gammas = [ema.gamma_of_sigma_rel(w) for _, w in stored]
    gamma = ema.gamma_of_sigma_rel(width)
    found, error = posthoc.weights([t for t, _ in stored], gammas, STEPS, gamma)
    made = posthoc.combine([seen[f"{w:g}"][t - 1] for t, w in stored], found)
    # Cauchy and Schwarz: the error of the profile times the size of the path; and steps for time.
    norm = posthoc.overlap(STEPS, gamma, STEPS, gamma) ** 0.5
    bound = error * norm * np.linalg.norm(path, axis=0) + 1e-9
    assert np.all(np.abs(made - seen[f"{width:g}"][-1]) <= 1.5 * bound)
    assert error < 0.04


def test_combination_is_summed_in_float64_and_keeps_the_dtypes():
    trees = [{"w": jnp.float32([1e8])}, {"w": jnp.float32([1.0])}, {"w": jnp.float32([1e8])}]
    found = posthoc.combine(iter(trees), [1.0, 1.0, -1.0])
    assert found["w"].dtype == np.float32 and found["w"] == 1.0


def test_snapshots_of_a_run_give_the_average_that_was_not_kept(tmp_path):
    lines, optimizer = [], train.optimizer(0.02)
    snapshots = train.Snapshots(tmp_path, "hash", STORED, lines.append)
    kept = ema.several({"own": ema.power(sigma_rel=0.08), **snapshots.averages})
    step = train.make_step(toys.loss, optimizer, kept)
    start = train.init_state(toys.params(), optimizer, jax.random.key(1), kept)

    def on_chunk(state, metrics, done):
        own = {name: state.ema.averages[name] for name in snapshots.gammas}
        snapshots.save(done, state._replace(ema=ema.Several(own)))

    state = train.fit(step, start, toys.batch_fn, 120, 30, on_chunk, data=toys.regression())
    template = start._replace(ema=snapshots.ema.init(start.params))
    again = train.Snapshots(tmp_path, "hash", STORED, lines.append)
    found, error = again.reconstruct(0.08, template)
    assert error < 0.03
    moved = np.abs(state.ema.averages["own"]["w"] - start.params["w"]).max()
    np.testing.assert_allclose(found["w"], train.averaged(state, "own")["w"], atol=error * moved)
    # A step that is there is kept, a damaged one is named and left out.
    again.save(60, template)
    assert lines == []
    (tmp_path / "60" / "record" / "metadata").write_text("")
    found, worse = again.reconstruct(0.08, template)
    assert lines == ["snapshot 60 left out: its record cannot be read (JSONDecodeError)"]
    assert error < worse < 0.1


def test_snapshots_without_files_or_widths_are_refused(tmp_path):
    with pytest.raises(train.CheckpointError, match="no usable snapshots"):
        train.Snapshots(tmp_path, "hash").reconstruct(0.07, toys.state(train.optimizer(1.0)))
    with pytest.raises(PersonError, match="at least one average"):
        train.Snapshots(tmp_path, "hash", [])
    with pytest.raises(PersonError, match=r"sigma_rel 0\.4"):
        train.Snapshots(tmp_path, "hash", [0.4])

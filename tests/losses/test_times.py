"""Time samplers: their laws, by Kolmogorov-Smirnov tests at fixed keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dfx import schedules
from dfx.errors import PersonError
from dfx.losses import discrete, log_normal_sigma, logit_normal, stratify, times, uniform

NUM = 20_000
# A right sampler fails one such test in ten thousand, and with a fixed key always or never.
LEAST_P = 1e-4


def draw(sampler, num=NUM, seed=0):
    return np.asarray(sampler(jax.random.key(seed), num), np.float64)


def assert_law(sample, cdf):
    assert stats.kstest(sample, cdf).pvalue > LEAST_P


def test_uniform_times_are_uniform_from_start_to_end():
    assert_law(draw(uniform(schedules.VPLinear())), stats.uniform.cdf)
    sample = draw(uniform(schedules.EDM(), start=0.5, end=40.0))
    assert_law(sample, stats.uniform(0.5, 39.5).cdf)
    assert_law(draw(uniform(schedules.EDM())), stats.uniform(0, 80).cdf)


def test_logit_normal_times_have_normal_logits():
    for schedule in (schedules.EDM(), schedules.RectifiedLinear()):
        sample = draw(logit_normal(schedule, mean=-0.4, std=0.8)) / schedule.end_time
        assert_law(np.log(sample / (1 - sample)), stats.norm(-0.4, 0.8).cdf)
    assert np.median(sample) < 0.5  # a negative mean favours the data, t = 0


@pytest.mark.parametrize("schedule", [schedules.EDM(), schedules.RectifiedLinear()], ids=type)
def test_log_normal_sigma_times_have_normal_log_sigma_over_alpha(schedule):
    t = draw(log_normal_sigma(schedule))
    level = schedule.at(t)
    assert_law(np.log(level.sigma / level.alpha), stats.norm(-1.2, 1.2).cdf)


def test_log_normal_sigma_beyond_the_schedule_goes_to_its_end():
    schedule = schedules.EDM(sigma_max=1.0)
    t = draw(log_normal_sigma(schedule, mean=0.0, std=1.0))
    assert t.max() == 1.0
    # Half of the law lies beyond; four standard errors.
    assert np.mean(t == 1.0) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(NUM))


def test_discrete_times_are_those_of_the_table_all_equally_likely():
    schedule = schedules.discrete_linear(50)
    t = draw(discrete(schedule))
    index = schedule.index(t)
    np.testing.assert_allclose(index, np.round(index), atol=1e-4)  # float32 of (i + 1) / 50
    index = np.round(index).astype(int)
    assert index.min() == 0 and index.max() == 49
    assert stats.chisquare(np.bincount(index, minlength=50)).pvalue > LEAST_P


def test_discrete_times_of_float32_give_the_table_to_its_rounding():
    schedule = schedules.discrete_linear(1000)
    t = discrete(schedule)(jax.random.key(0), 500)
    index = np.round(schedule.index(np.asarray(t, np.float64))).astype(int)
    exact = schedule.at(schedule.time_of_index(index))
    np.testing.assert_allclose(schedule.at(t).alpha, exact.alpha, rtol=2e-5)
    np.testing.assert_allclose(schedule.at(t).sigma, exact.sigma, rtol=2e-5)


def test_extreme_quantiles_stay_inside_every_law():
    edge = jnp.float32([0, 1])
    half = jnp.finfo(jnp.float32).epsneg
    schedule = schedules.discrete_linear(1000)
    for name in times.REGISTRY:
        t = times.make(name, schedule).quantile(jnp.clip(edge, half, 1 - half))
        assert np.isfinite(t).all() and (t >= 0).all() and (t <= 1).all()
    np.testing.assert_allclose(discrete(schedule).quantile(1 - half), 1.0, rtol=1e-6)
    np.testing.assert_allclose(discrete(schedule).quantile(half), 1e-3, rtol=1e-6)


def test_stratified_times_put_one_in_each_stratum():
    num = 64
    t = draw(stratify(uniform(schedules.VPLinear())), num)
    np.testing.assert_array_equal(np.sort(np.floor(t * num)), np.arange(num))


def test_each_stratified_time_keeps_its_law_and_their_mean_varies_less():
    n, keys = 8, jax.random.split(jax.random.key(1), 4000)
    sampler = stratify(logit_normal(schedules.RectifiedLinear()))
    t = np.asarray(jax.vmap(lambda key: sampler(key, n))(keys), np.float64)
    for i in (0, 5):
        assert_law(np.log(t[:, i] / (1 - t[:, i])), stats.norm.cdf)
    sampler = stratify(uniform(schedules.RectifiedLinear()))
    t = np.asarray(jax.vmap(lambda key: sampler(key, n))(keys), np.float64)
    # The mean of n independent times has variance 1 / 12 n; here it is uniform on a stratum. Four
    # standard errors of the variance of a uniform law (kurtosis 1.8).
    relative = 4 * np.sqrt(0.8 / 4000)
    assert t.mean(axis=1).var() == pytest.approx(1 / (12 * n**2), rel=relative)


def test_an_independent_time_is_the_same_in_every_batch():
    sampler = uniform(schedules.VPLinear())
    np.testing.assert_array_equal(draw(sampler, 100)[:8], draw(sampler, 8))


def test_by_name_is_by_factory():
    schedule = schedules.discrete_linear(50)
    by_name = times.make("logit_normal", schedule, stratified=True, mean=0.5)
    np.testing.assert_array_equal(
        draw(by_name, 9), draw(stratify(logit_normal(schedule, mean=0.5)), 9)
    )


def test_bad_settings_are_refused():
    schedule = schedules.VPLinear()
    with pytest.raises(PersonError, match="unknown time sampler 'unifrom': did you mean 'uniform'"):
        times.make("unifrom", schedule)
    with pytest.raises(PersonError, match="VPLinear has no table of times"):
        discrete(schedule)
    with pytest.raises(PersonError, match=r"times from 0.5 to 2.0: need 0 <= start < end <= 1.0"):
        uniform(schedule, 0.5, 2.0)
    with pytest.raises(PersonError, match="std is 0"):
        logit_normal(schedule, std=0)
    with pytest.raises(PersonError, match="std is inf"):
        log_normal_sigma(schedule, std=np.inf)
    with pytest.raises(PersonError, match="mean is nan"):
        logit_normal(schedule, mean=np.nan)

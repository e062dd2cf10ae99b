"""Schedules by name, and the check that numbers make a schedule."""

import dataclasses

import pytest

from dfx import schedules
from dfx.errors import PersonError
from dfx.pytree import pytree


def test_every_name_makes_a_schedule_that_passes_the_check(schedule):
    assert schedules.check(schedule) is schedule


def test_make_hands_on_the_options():
    assert schedules.make("ve", sigma_max=80.0) == schedules.VE(0.01, 80.0)
    assert schedules.make("ddpm", num_steps=10).num_steps == 10
    assert repr(schedules.make("ddpm", num_steps=10)) == "DiscreteVP(num_steps=10)"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vp_lineer", {}, "unknown schedule 'vp_lineer': did you mean 'vp_linear'"),
        (
            "ve",
            {"sigma_mim": 1.0},
            "option of schedule 've': 'sigma_mim': did you mean 'sigma_min'",
        ),
        ("trigonometric", {"beta_min": 1.0}, "option of schedule 'trigonometric': 'beta_min'"),
        ("ve", {"sigma_min": 60.0}, r"VE\(sigma_min=60.0, sigma_max=50.0\) is no schedule: sigma"),
        ("ve", {"sigma_min": 50.0}, "log-SNR must fall"),
        ("ve", {"sigma_min": 0.0}, "sigma must be finite, and fails to at t = 0"),
        ("vp_linear", {"beta_min": -5.0}, "is no schedule: sigma must be finite"),
        ("edm", {"sigma_max": -1.0}, "end_time must be positive and finite"),
        ("edm", {"sigma_max": float("inf")}, "end_time must be positive and finite"),
        ("edm", {"sigma_max": "80"}, "fields must be numbers"),
        ("ddpm", {"beta_end": 1.0}, r"betas must lie in \(0, 1\), got betas\[999\] = 1"),
    ],
)
def test_wrong_names_options_and_numbers_are_named(name, options, message):
    with pytest.raises(PersonError, match=message) as error:
        schedules.make(name, **options)
    assert "\n" not in str(error.value)


@pytree
@dataclasses.dataclass(frozen=True)
class Rising(schedules.Schedule):
    """No schedule: the noise leaves again in the second half, or alpha turns negative."""

    slope: float = 1.0

    def alpha(self, t):
        return 1 - self.slope * t

    def sigma(self, t):
        return t * (1.2 - t)


def test_a_class_of_a_user_is_checked_too():
    with pytest.raises(PersonError, match=r"Rising\(slope=0.0\) .* log-SNR must fall .* t = 0.6"):
        schedules.check(Rising(0.0))
    with pytest.raises(PersonError, match=r"alpha must not be negative, and fails to at t = 0\.51"):
        schedules.check(Rising(2.0))

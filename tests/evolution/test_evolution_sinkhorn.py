"""The debiased entropic distance on grids: shifts, widths, far modes, products, equal laws."""

import numpy as np
import pytest

from dfx import evolution
from dfx.errors import PersonError

GRID = evolution.make_grid([-3.0] * 2, [3.0] * 2, [30] * 2)  # cells of 0.2
LINE = evolution.make_grid(-3.0, 3.0, 60)


def bell(x, std):
    return np.exp(-0.5 * (x / std) ** 2)


def gaussian(mean, std):
    return np.outer(*(bell(GRID.axis(0) - m, std) for m in mean))


def modes(x, w):
    return w * bell(x + 1.2, 0.35) + (1 - w) * bell(x - 1.2, 0.35)


def test_a_law_has_no_distance_from_itself():
    law = gaussian((0.3, -0.4), 0.5)
    assert abs(evolution.sinkhorn_divergence(GRID, law, law)) < 1e-12
    assert abs(evolution.sinkhorn_divergence(GRID, law, 3 * law)) < 1e-12  # divided by its mass


@pytest.mark.parametrize("shift", [0.02, 0.1, 0.6])
def test_the_distance_of_a_shift_is_its_square(shift):
    """Also far below the cell, where histograms are further apart by shift * cell."""
    first, second = gaussian((0.0, 0.0), 0.4), gaussian((shift, 0.0), 0.4)
    found = evolution.sinkhorn_divergence(GRID, first, second)
    assert found == pytest.approx(shift**2, rel=0.01, abs=1e-6)
    wider = evolution.sinkhorn_divergence(GRID, first, second, blur=0.3)
    assert wider == pytest.approx(shift**2, rel=0.01, abs=1e-6)


@pytest.mark.parametrize("shift", [5.0, 20.0, 80.0])
def test_the_distance_of_a_far_shift_is_its_square(shift):
    """Up to 80 standard deviations and cells: the kernel between the laws underflows."""
    line = evolution.make_grid(-10.0, 90.0, 100)
    laws = [bell(line.axis(0) - m, 1.0) for m in (0.0, shift)]
    assert evolution.sinkhorn_divergence(line, *laws) == pytest.approx(shift**2, rel=1e-9)


def test_the_distance_of_two_widths_is_that_of_normal_laws():
    """W_2^2 = 2 (s - s')^2 in two dimensions, but for (e / 4 v)^2 = 0.016 of it, and for tails."""
    found = evolution.sinkhorn_divergence(GRID, gaussian((0, 0), 0.4), gaussian((0, 0), 0.48))
    assert found == pytest.approx(2 * 0.08**2, rel=0.03)


def test_the_divergence_of_normal_laws_is_its_closed_form_at_a_wide_blur():
    """The plan of N(0, a) and N(0, b) is normal. Its covariance c is where the derivative of
    a + b - 2 c - e / 2 log(1 - c^2 / (a b)) is zero, c^2 + e c / 2 = a b, and e = 2 blur^2."""
    blur = 0.8
    entropy = 2 * blur**2

    def transport(a, b):
        c = np.sqrt(entropy**2 / 16 + a * b) - entropy / 4
        return a + b - 2 * c - 0.5 * entropy * np.log(1 - c**2 / (a * b))

    a, b = 0.25, 0.49
    line = evolution.make_grid(-4.0, 4.0, 80)  # cells of 0.1: sums of smooth laws are exact
    laws = [bell(line.axis(0), np.sqrt(v)) for v in (a, b)]
    expected = transport(a, b) - 0.5 * (transport(a, a) + transport(b, b))
    assert abs(expected / (np.sqrt(a) - np.sqrt(b)) ** 2 - 1) > 0.02  # unlike W_2^2
    found = evolution.sinkhorn_divergence(line, *laws, blur=blur)
    assert found == pytest.approx(expected, abs=1e-5)  # tails beyond the box, and the stop


def test_mass_is_carried_between_far_places():
    """1 % of the mass goes from one mode to the other; on the line it is known by quantiles. Of it
    (e / 4 v)^2 = 0.027 is left."""
    fine = evolution.make_grid(-3, 3, 6000)
    expected = evolution.wasserstein_grid_1d(fine, *(modes(fine.axis(0), w) for w in (0.51, 0.5)))
    x = GRID.axis(0)
    laws = [np.outer(modes(x, w), bell(x, 0.35)) for w in (0.51, 0.5)]
    found = evolution.sinkhorn_divergence(GRID, *laws)
    assert found == pytest.approx(expected**2, rel=0.04)


@pytest.mark.parametrize(("apart", "cells"), [(1.2, 30), (8.0, 100)])
def test_much_mass_is_carried_far(apart, cells):
    """The first of two modes has 0.8 of the mass, then 0.5; they are 7 and 46 standard deviations
    apart, where the kernel between them is exp(-3200). The blur of a cell is below 1 % of W_2^2."""
    end = apart + 2.0

    def law(grid, w):
        x = grid.axis(0)
        return w * bell(x + apart, 0.35) + (1 - w) * bell(x - apart, 0.35)

    fine, line = (evolution.make_grid(-end, end, n) for n in (6000, cells))
    expected = evolution.wasserstein_grid_1d(fine, law(fine, 0.8), law(fine, 0.5)) ** 2
    found = evolution.sinkhorn_divergence(line, law(line, 0.8), law(line, 0.5))
    assert found == pytest.approx(expected, rel=0.01)


def test_of_products_with_one_factor_in_common_it_is_that_of_the_others():
    """Costs and kernels add along the axes; the iteration stops at changes of 1e-7."""
    x = LINE.axis(0)
    first, second = bell(x - 0.3, 0.4), bell(x + 0.2, 0.5)
    expected = evolution.sinkhorn_divergence(LINE, first, second, blur=0.25)
    plane = evolution.make_grid([-3.0, -2.0], [3.0, 2.0], [60, 20])
    laws = [np.outer(law, bell(plane.axis(1), 0.6)) for law in (first, second)]
    found = evolution.sinkhorn_divergence(plane, *laws, blur=0.25)
    assert found == pytest.approx(expected, abs=1e-6)
    assert evolution.sinkhorn_divergence(plane, *laws[::-1], blur=0.25) == pytest.approx(
        found, abs=1e-6
    )


def test_mistakes_are_refused_in_one_line():
    law = np.ones((30, 30))
    with pytest.raises(PersonError, match="a density of shape"):
        evolution.sinkhorn_divergence(GRID, law, np.ones((30, 20)))
    for empty in (0 * law, np.nan * law):
        with pytest.raises(PersonError, match="must be positive and finite"):
            evolution.sinkhorn_divergence(GRID, law, empty)
    with pytest.raises(PersonError, match="blur = 0"):
        evolution.sinkhorn_divergence(GRID, law, law, blur=0)

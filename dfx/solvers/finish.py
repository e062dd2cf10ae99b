"""The last step to clean data for laws with a smooth density."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.tableau import Rows, Tableau, assemble, output, unstack


def half_denoise(tableau: Tableau, schedule, t) -> Tableau:
    """Return the solver with a last step from time t, where it ends, half-way to the denoiser:

        x_0 = (x_t / alpha + x0_hat) / 2.

    Where the data have a density that is smooth at the scale sigma / alpha, eps_hat = -sigma score
    falls to 0 in proportion to sigma, so the way from sigma to 0 is half of what Euler's step takes
    it for: the error is of order (sigma / alpha)^4, not 2. Away from a manifold without thickness
    eps_hat stays of size 1 and the whole step, x0_hat, is the right one: that is what all other
    solvers end with. One evaluation, as theirs.

    Args:
      tableau: a solver whose grid ends at t, such as make(name, schedule, grid[:-1]) with t =
        grid[-2] of a grid to clean data. No mean term.
      schedule: the forward process.
      t: a time with sigma > 0 and alpha > 0, one for all tokens; a number, since builders take a
        traced grid to end at clean data.

    Raises:
      PersonError: a mean term, more than one state, or t at clean data or at pure noise.

    Source: Hyvärinen 2024 (half-denoising), for Langevin steps; the order along the
    probability-flow path follows from the odd expansion of eps_hat in sigma.
    """
    level = schedule.at(float(t))
    if tableau.keep or schedule.has_mean:
        raise PersonError("half_denoise needs a solver with one state, without a mean term")
    if not (level.sigma > 0 and level.alpha > 0):
        raise PersonError(
            f"half_denoise starts at sigma = {level.sigma:g}, alpha = {level.alpha:g}: both must "
            "be positive, let the grid of the solver end before"
        )
    last = Rows(level, {(0, 0): 0.5 / level.alpha, (0, output(0)): 0.5})
    return assemble(tableau.start, [*unstack(tableau), last], tableau.keep)

"""CFG++: steps that go to the guided x0_hat and put the unconditional noise back."""

from __future__ import annotations

import numpy as np

from dfx.errors import PersonError
from dfx.solvers.phi import shrink
from dfx.solvers.steps import ends_clean, namespace, pairs, ratio, record
from dfx.solvers.tableau import Tableau

ORDERS = (1, 2)


def cfgpp(schedule, grid, order: int = 1) -> Tableau:
    """Return CFG++ for a field with two outputs, D the guided denoiser and D_u the unconditional:

        1:  x_t = alpha_t D + sigma_t eps_u,    eps_u = (x_s - alpha_s D_u) / sigma_s
        2:  the same + alpha_t (1 - e^-h) (h / 2 h_old) (D - D_u_old)

    with h = log-SNR step / 2. `order` is that of the unguided sampler, DDIM or DPM-Solver++(2M),
    which this is where D = D_u. Under guidance there is no order: a step of the first kind is a
    DDIM step of classifier-free guidance with the weight w / (1 - e^-h), so refining the grid at
    fixed w raises the guidance without bound. One evaluation a step; one lane, or two for 2. At
    sigma_t = 0 it returns D; the first and, on a grid that ends in clean data, the last step are of
    the first kind.

    Args:
      schedule, grid: as in `record`; tokens may have their own times, and stand still.
      order: 1 or 2. 2 is "2M": the correction compares D with the D_u of the row before.

    Raises:
      PersonError: another order, or a bad grid.

    Source: Chung et al. 2024 (CFG++), algorithm 1; order 2 as in the authors' code.
    """
    if order not in ORDERS:
        raise PersonError(f"order = {order}: allowed are {', '.join(map(str, ORDERS))}")
    r, levels = record(schedule, grid)
    xp, clean = namespace(levels), ends_clean(levels)
    x, old, h_old = r.start, None, 0.0
    for s, t in pairs(levels):
        e = r.at(x, s)
        guided, plain = e.out(0), e.out(1)
        kept = ratio(t.sigma, s.sigma)
        share = shrink(s, t)  # e^-h
        with np.errstate(divide="ignore"):
            h = -xp.log(share)
        # A token that stands still (h = 0) must not be guided: the guidance of a step has no limit.
        moves = xp.where(share == 1, 0.0, 1.0)[()]
        x = kept * x + t.alpha * moves * guided
        x = x + (t.alpha * (1 - moves) - kept * s.alpha) * plain
        if order == 2 and old is not None and not (clean and t is levels[-1]):
            weight = t.alpha * (1 - share) * _over(h, 2 * h_old, xp)
            x = x + weight * guided - weight * old
        old, h_old = plain, h
    return r.tableau(x)


def _over(a, b, xp):
    """a / b, and 0 where this step ends clean, or the one before was none or began without x0."""
    usable = xp.isfinite(a) & xp.isfinite(b) & (b > 0)
    return (xp.where(usable, a, 0.0) / xp.where(usable, b, 1.0))[()]

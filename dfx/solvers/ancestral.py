"""Stochastic steps in sigma space: Euler with ancestral noise, and reverse diffusion."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.ddim import renoised
from dfx.solvers.phi import ddim_step, shrink
from dfx.solvers.steps import check_start, ends_clean, namespace, pairs, record, root
from dfx.solvers.tableau import Tableau


def euler_ancestral(schedule, grid, eta: float = 1.0) -> Tableau:
    """Return Euler with ancestral noise: with X = x/alpha, S = sigma/alpha, d = eps_hat,

        S_up   = min(S_t, eta S_t sqrt(1 - S_t^2 / S_s^2)),    S_down = sqrt(S_t^2 - S_up^2),
        X_t    = X_s + (S_down - S_s) d + S_up z.

    Up to eta = 1 it is DDIM(eta), on every schedule; so eta = 0 is `euler` and eta = 1 `ddpm` with
    the small variance, which on variance-exploding schedules is the ancestral predictor of
    score-SDE (on variance-preserving ones that is `ddpm` with the large variance). Larger eta adds
    more noise, at most all of it. Weak order 1 for eta > 0, one evaluation a step, one lane. A last
    step to sigma = 0 returns x0_hat.

    Args:
      schedule, grid: as in `record`; tokens may have their own times.
      eta: 0 or more.

    Raises:
      PersonError: negative or infinite eta, or a bad grid.

    Source: k-diffusion (Crowson 2022), sample_euler_ancestral; Song, Meng & Ermon 2021, eq. 12.
    """
    if not 0 <= eta < float("inf"):
        raise PersonError(f"eta = {eta}: must be a number from 0")
    return renoised(schedule, grid, eta)


def reverse_diffusion(schedule, grid) -> Tableau:
    """Return the reverse diffusion predictor of score-SDE: the step of the forward chain,

        x_s = a x_t + sqrt(beta) z,    a = alpha_s / alpha_t,    beta = sigma_s^2 - a^2 sigma_t^2,

    turned round as its drift and noise are, with score = -eps_hat / sigma_s,

        x_t = (2 - a) x_s + beta score + sqrt(beta) z.

    On variance-preserving schedules a = sqrt(1 - beta), on exploding ones a = 1: the two cases of
    the source. Ito, weak order 1, and strong order 1 as its noise is additive; one evaluation a
    step, one lane. A last step to sigma = 0 returns x0_hat, without noise; on exploding schedules
    that is the formula, elsewhere the formula adds (1 - a) (x_s - x0_hat). `ddpm` with the large
    variance has the factor 1 / a in place of 2 - a, and is exact for a constant denoiser.

    Args:
      schedule, grid: as in `record`; tokens may have their own times. sigma / alpha must stay below
        1e6, but where the first step is the last: at alpha = 0 the chain doubles the variance.

    Raises:
      PersonError: too much noise at the start, or a bad grid.

    Source: Song et al. 2021 (score SDE), appendix E, eq. 46; algorithms 2 and 3.
    """
    r, levels = record(schedule, grid)
    xp, clean = namespace(levels), ends_clean(levels)
    if not clean or len(levels) > 2:
        check_start(levels, "reverse_diffusion")
    x = r.start
    for s, t in pairs(levels):
        x0 = r.at(x, s).x0
        if clean and t is levels[-1]:
            return r.tableau(ddim_step(x, x0, s, t))
        a = s.alpha / t.alpha
        fresh = 1 - shrink(s, t) ** 2  # beta / sigma_s^2
        ready = (t.sigma == 0) & (fresh > 0)  # a token that ends here, before others
        of_x = xp.where(ready, 0.0, 2 - a - fresh)
        x = of_x * x + xp.where(ready, 1.0, fresh * s.alpha) * x0
        x = x + xp.where(ready, 0.0, s.sigma * root(fresh)) * r.noise()
    return r.tableau(x)

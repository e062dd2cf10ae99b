"""SDE-DPM-Solver++: multistep solvers of the reverse stochastic equation."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.dpm_multistep import check_options, weights
from dfx.solvers.phi import correction, ddim_step, gap, order_of_step, shrink
from dfx.solvers.steps import ends_clean, pairs, ratio, record, root
from dfx.solvers.tableau import Tableau


def sde_dpm_multistep(
    schedule,
    grid,
    order: int = 2,
    eta: float = 1.0,
    solver_type: str = "midpoint",
    variant: str = "exact",
    lower_order_final: bool = False,
) -> Tableau:
    """Return SDE-DPM-Solver++ kM, k = 1, 2, 3: with H = (1 + eta) h and phi_k at -H,

        x_t = sigma_t / sigma_s exp(-eta h) x_s + sigma_t sqrt(1 - exp(-2 eta h)) z
              + alpha_t (1 + eta) [phi_1 h m_s + phi_2 h^2 D1
                                   + (2 phi_3 h^3 + phi_2 h^2 (lambda_s - lambda_{s-1})) D2]

    where m = x0_hat and D1, D2 are as in `dpm_multistep`; "midpoint" has phi_1 h^2 / 2 in place of
    phi_2 h^2 in a step of order 2. eta = 0 is `dpm_multistep`, eta = 1 the usual reverse equation,
    for which order 1 is DDPM with the small variance. The order in law is 1 for k = 1 and 2 for k =
    2, 3, as measured on normal laws: the noise caps it. Exact in law for a constant denoiser, at
    any eta and k. One evaluation a step, k lanes. A grid that ends in clean data ends with x0_hat,
    without noise.

    variant="reference" is the third order of published code (k-diffusion): half of the term
    2 phi_3 h^3 D2, so that the error at eta = 0 falls with order 2.

    Args:
      schedule, grid: as in `dpm_multistep`.
      order: 1, 2 or 3.
      eta: at least 0; tau^2 of `sa_solver`.
      solver_type, variant, lower_order_final: as in `dpm_multistep`.

    Raises:
      PersonError: an option outside these, or a bad grid.

    Source: Lu et al. 2022b (DPM-Solver++); for general eta Xue et al. 2023 (SA-Solver).
    """
    check_options(order, solver_type, variant)
    if not 0 <= eta < float("inf"):
        raise PersonError(f"eta = {eta}: must be a number from 0")
    r, levels = record(schedule, grid)
    steps, clean = pairs(levels), ends_clean(levels)
    nodes: list = []  # half log-SNR from the start, and predictions there, the newest first
    values: list = []
    x, now = r.start, 0.0
    for i, (s, t) in enumerate(steps):
        m, h = r.at(x, s).x0, gap(s, t)
        if clean and t is levels[-1]:
            return r.tableau(ddim_step(x, m, s, t))
        nodes, values = [now, *nodes], [m, *values]
        k = order_of_step(order, i, len(steps), clean, lower_order_final)
        scale = (1 + eta) * t.alpha
        integrals, line = weights(k, h, -(1 + eta), scale, solver_type, variant)
        x = sde_step(r, x, m, s, t, eta, noisy=eta > 0)
        x = x + correction(integrals, nodes[:k], values[:k], line)
        now = now + h
    return r.tableau(x)


def sde_step(r, x, x0, s, t, eta, noisy: bool):
    """Return the step of order 1, with a noise term if `noisy`; eta may be zero all the same."""
    kept = shrink(s, t)
    x = ratio(t.sigma, s.sigma) * kept**eta * x + t.alpha * (1 - kept ** (1 + eta)) * x0
    if not noisy:
        return x
    return x + t.sigma * root(1 - kept ** (2 * eta)) * r.noise()

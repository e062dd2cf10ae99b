"""DPM-Solver and DPM-Solver++, multistep: one evaluation a step, the last ones remembered."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.phi import correction, ddim_step, gap, moments, order_of_step
from dfx.solvers.steps import check_noisy, ends_clean, pairs, record
from dfx.solvers.tableau import Tableau

ORDERS = (1, 2, 3)
SOLVER_TYPES = ("midpoint", "taylor")
VARIANTS = ("exact", "reference")


def dpm_multistep(
    schedule,
    grid,
    order: int = 2,
    data: bool = True,
    solver_type: str = "midpoint",
    variant: str = "exact",
    lower_order_final: bool = False,
) -> Tableau:
    """Return DPM-Solver(++) kM, k = 1, 2, 3: DDIM plus what the slope of the last predictions adds,

        D1 = (m_s - m_{s-1}) / (lambda_s - lambda_{s-1}),    D2 = the divided difference of three,
        x_t = sigma_t / sigma_s x_s + alpha_t [phi_1 h m_s + phi_2 h^2 D1                       (2)
                                       + (2 phi_3 h^3 + phi_2 h^2 (lambda_s - lambda_{s-1})) D2 (3)]

    for m = x0_hat with phi_k at -h; for m = eps_hat the same with alpha_t / alpha_s, -sigma_t and
    phi_k at h. "midpoint", in a step of order 2, has phi_1 h^2 / 2 in place of phi_2 h^2. One
    evaluation a step, k lanes; order k, where the first steps of order 1, 2 must be at high noise
    to leave order 3 visible. Order 1 is DDIM. At sigma_t = 0 the last step is order 1: x0_hat.

    variant="reference" is the third order as published code has it: half of the term 2 phi_3 h^3
    D2. Its error falls with order 2.

    Args:
      schedule, grid: as in `record`; a start at alpha = 0 counts as one more step of order 1.
        Tokens may have their own times, at sigma = 0 too if `data`.
      order: 1, 2 or 3.
      data: integrate x0_hat (DPM-Solver++), exact for a constant denoiser; otherwise eps_hat
        (DPM-Solver), exact for constant noise.
      solver_type: "midpoint" or "taylor" (exact) for the steps of order 2.
      variant: "exact" or "reference".
      lower_order_final: no order above the number of steps left. Steadier for few steps; caps the
        order at 2. Off by default.

    Raises:
      PersonError: an option outside these, or a bad grid.

    Source: Lu et al. 2022b (DPM-Solver++), algorithm 2 (2M) and appendix B; 3M is in the authors'
    code.
    """
    check_options(order, solver_type, variant)
    r, levels = record(schedule, grid)
    if order > 1 and not data:
        check_noisy(levels, "dpm_multistep of eps_hat", end=False)
    steps, clean = pairs(levels), ends_clean(levels)
    nodes: list = []  # half log-SNR from the start, and predictions there, the newest first
    values: list = []
    x, now = r.start, 0.0
    for i, (s, t) in enumerate(steps):
        e, h = r.at(x, s), gap(s, t)
        nodes, values = [now, *nodes], [e.x0 if data else e.eps, *values]
        k = order_of_step(order, i, len(steps), clean, lower_order_final)
        rate, scale = (-1, t.alpha) if data else (1, -t.sigma)
        integrals, line = weights(k, h, rate, scale, solver_type, variant)
        x = ddim_step(x, e.x0, s, t) + correction(integrals, nodes[:k], values[:k], line)
        now = now + h
    return r.tableau(x)


def weights(order, h, rate, scale, solver_type, variant):
    """Return the moments of a step as the published variants have them, and that of a line."""
    integrals = moments(order, h, rate, scale)
    if order == 3 and variant == "reference":
        integrals[2] = integrals[2] / 2
    return integrals, (h * integrals[0] / 2 if solver_type == "midpoint" else None)


def check_options(order, solver_type, variant):
    """Raise PersonError for an option that a multistep DPM-Solver does not have."""
    if order not in ORDERS:
        raise PersonError(f"order = {order!r}: allowed are 1, 2, 3")
    if solver_type not in SOLVER_TYPES:
        raise PersonError(f"solver_type = {solver_type!r}: allowed are {', '.join(SOLVER_TYPES)}")
    if variant not in VARIANTS:
        raise PersonError(f"variant = {variant!r}: allowed are {', '.join(VARIANTS)}")

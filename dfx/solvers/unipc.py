"""UniPC: a multistep predictor, and a corrector that costs no evaluation."""

from __future__ import annotations

from dfx.errors import PersonError
from dfx.solvers.phi import (
    correction,
    ddim_step,
    gap,
    make_corrector,
    moments,
    noise_step,
    order_of_step,
)
from dfx.solvers.steps import ends_clean, pairs, record
from dfx.solvers.tableau import Tableau

ORDERS = (1, 2, 3)
VARIANTS = ("bh1", "bh2", "vary")


def unipc(
    schedule,
    grid,
    order: int = 3,
    variant: str = "bh2",
    data: bool = True,
    corrector: bool = True,
    lower_order_final: bool = False,
) -> Tableau:
    """Return UniPC-p: with P the polynomial in lambda through p (predictor), p + 1 predictions,

        predictor   y_t = base(x_s) + int (P - m_s),    P through m_s, m_{s-1}, ..
        corrector   x_t = base(x_s) + int (P - m_s),    P through m_s, m_t = m(y_t), m_{s-1}, ..
        base(x_s) = sigma_t / sigma_s x_s - alpha_t (exp(-h) - 1) m_s        (m = x0_hat)
                  = alpha_t / alpha_s x_s - sigma_t (exp(h) - 1) m_s         (m = eps_hat)

    The integral is that of `correction`: the linear system of the source says the same. Where P is
    a line, the source has B(h) / 2 in place of the integral of (lambda - lambda_s) / h up to its
    weight: B = h ("bh1") or |exp(-+h) - 1| ("bh2"), while "vary" integrates exactly; for other
    degrees the three agree. The corrected x_t is not evaluated again: one evaluation a step, none
    corrects the last step. Order p + 1, without corrector p; p + 1 lanes, without corrector p. At
    sigma_t = 0 the last step is order 1 and returns x0_hat.

    Args:
      schedule, grid: as in `dpm_multistep`.
      order: p = 1, 2 or 3.
      variant: "bh1", "bh2" or "vary".
      data: integrate x0_hat; otherwise eps_hat.
      corrector: whether to correct.
      lower_order_final: no p above the number of steps left, as in published code. Steadier for few
        steps; caps the order at 2. Off by default.

    Raises:
      PersonError: an option outside these, or a bad grid.

    Source: Zhao et al. 2023 (UniPC), algorithms 1 and 2, and the appendix (vary).
    """
    if order not in ORDERS:
        raise PersonError(f"order = {order!r}: allowed are 1, 2, 3")
    if variant not in VARIANTS:
        raise PersonError(f"variant = {variant!r}: allowed are {', '.join(VARIANTS)}")
    r, levels = record(schedule, grid)
    steps, clean = pairs(levels), ends_clean(levels)
    nodes: list = []  # half log-SNR from the start, and predictions there, the newest first
    values: list = []
    point, now, correct = r.start, 0.0, None
    for i, (s, t) in enumerate(steps):
        e, h = r.at(point, s), gap(s, t)
        m = e.x0 if data else e.eps
        x = r.let(correct(m)) if correct else point
        if clean and t is levels[-1]:
            return r.tableau(ddim_step(x, e.x0, s, t))
        nodes, values = [now, *nodes], [m, *values]
        k = order_of_step(order, i, len(steps), clean, lower_order_final)
        now = now + h
        base = ddim_step(x, e.x0, s, t) if data or x is point else noise_step(x, m, s, t)
        rate, scale = (-1, t.alpha) if data else (1, -t.sigma)
        integrals = moments(k + 1, h, rate, scale)
        line = _line(variant, integrals, h, scale)
        point = base + correction(integrals, nodes[:k], values[:k], line)
        if corrector:
            correct = make_corrector(base, integrals, nodes[:k], values[:k], now, line)
    return r.tableau(point)


def _line(variant, integrals, h, scale):
    """The integral of (lambda - lambda_s) where the polynomial is a line, h B(h) / 2 with scale."""
    if variant == "vary":
        return None
    return h * (scale * h if variant == "bh1" else integrals[0]) / 2

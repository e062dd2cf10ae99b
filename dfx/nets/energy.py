"""Energy nets: nets whose prediction is a gradient, made of any body with outputs like x.

From a body psi(x, t) and a form, one number for each sample, the potential phi:

    scalar          phi = sum_a psi_a           squared_norm    phi = -|psi|^2 / 2
    inner_product   phi = x . psi               displacement    phi = -|x - psi|^2 / 2

and from the potential the prediction and the log-density, up to a constant for each level:

    prediction "eps":      eps_hat = -grad_x phi,      log p_t = phi / sigma
    prediction "score":    score   =  grad_x phi,      log p_t = phi

The eps form asks for outputs of order one at every level, as a free net of the same body does, and
is the default. The Jacobian of the prediction is a Hessian: symmetric, whatever the parameters are.

The body must be smooth (SiLU, GELU, softplus, tanh): denoising differentiates phi twice, the
Fokker-Planck penalties three and four times. Behind rectifiers, leaky ones too, psi is linear in
pieces: the prediction jumps between them, and the derivatives do not see the jumps.

squared_norm and displacement bound log p_t from above: densities with poles are out of reach, and
the prediction vanishes where psi = 0 (psi = x). An evaluation costs one of the body and one reverse
pass. Where a constant added to phi is lost, so is what makes it: the last bias of `scalar`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dfx.errors import choose
from dfx.fields import net_time
from dfx.nets.mlp import mlp
from dfx.nets.net import Net, Params
from dfx.pytree import pytree
from dfx.schedules import Level

#: Form -> (x, psi) -> the terms that sum to phi.
FORMS: dict[str, Callable] = {
    "scalar": lambda x, psi: psi,
    "squared_norm": lambda x, psi: -0.5 * psi**2,
    "inner_product": lambda x, psi: x * psi,
    "displacement": lambda x, psi: -0.5 * (x - psi) ** 2,
}

#: Prediction -> the factor of grad phi.
SIGNS = {"eps": -1.0, "score": 1.0}


class EnergyNet(NamedTuple):
    """A net and its potential; hashable, and a `Net` for losses and fields.

    Attributes:
      init: key -> params, those of the body.
      apply: (params, x, t, cond=None) -> the prediction, shape and dtype of x.
      potential: (params, x, t, cond=None) -> phi, shape (n,), float32 or the wider dtype of x.
      prediction: what `apply` gives, "eps" or "score": the name that losses and fields ask for.
      dropout: 0, as in a `Net` without.
    """

    init: Callable[..., Params]
    apply: Callable[..., jax.Array]
    potential: Callable[..., jax.Array]
    prediction: str
    dropout: float = 0.0


def scalar(net: Net, prediction: str = "eps") -> EnergyNet:
    """Return the energy net with phi = sum_a psi_a, any sign and growth.

    Args:
      net: the body, a `Net` with outputs of the shape of x, smooth in x.
      prediction: "eps" or "score".

    Raises:
      PersonError: another prediction.

    Source: Deveney et al. 2023 (a scalar net for the log-density).
    """
    return _energy(net, "scalar", prediction)


def squared_norm(net: Net, prediction: str = "eps") -> EnergyNet:
    """Return the energy net with phi = -|psi|^2 / 2; arguments as `scalar`.

    N(0, v I) has psi = sqrt(sigma / v) x in the eps form.

    Source: Horvat & Pfister 2024, section 5; Du et al. 2023 (energy as a squared norm).
    """
    return _energy(net, "squared_norm", prediction)


def inner_product(net: Net, prediction: str = "eps") -> EnergyNet:
    """Return the energy net with phi = x . psi; arguments as `scalar`.

    A psi linear in x gives a quadratic phi. grad phi = psi + (d psi / d x)^T x, so at x = 0 it is
    psi itself.

    Source: Du et al. 2023, whose last layer takes up the sign.
    """
    return _energy(net, "inner_product", prediction)


def displacement(net: Net, prediction: str = "eps") -> EnergyNet:
    """Return the energy net with phi = -|x - psi|^2 / 2; arguments as `scalar`.

    The body is a denoiser: with psi constant in x the law is a Gaussian around it, and a body that
    starts at zero starts with eps_hat = x.

    Source: Salimans & Ho 2021; Du et al. 2023 (their code leaves out the 1/2).
    """
    return _energy(net, "displacement", prediction)


def energy_mlp(
    dim: int,
    form: str = "squared_norm",
    width: int = 256,
    depth: int = 3,
    prediction: str = "eps",
    dtype: Any = None,
) -> EnergyNet:
    """Return the energy net whose body is `nets.mlp(dim, width, depth, dtype)`; t of order one.

    Args:
      dim: the dimension d of x, shape (n, d).
      form: one of `FORMS`.
      width, depth, dtype: of the body.
      prediction: "eps" or "score".

    Raises:
      PersonError: unknown form or prediction, or a size that is none.
    """
    return _energy(mlp(dim, width, depth, dtype), form, prediction)


@pytree
@dataclasses.dataclass(frozen=True)
class LogDensity:
    """(x, level) -> log p_t(x) up to a constant of the level; made by `log_density`.

    `potential`, `prediction` and `time` are part of the compiled program; `params` and `cond` are
    its arguments.
    """

    potential: Callable = dataclasses.field(metadata={"static": True})
    params: Any
    prediction: str = dataclasses.field(default="eps", metadata={"static": True})
    time: Callable | None = dataclasses.field(default=None, metadata={"static": True})
    cond: Any = None

    def __call__(self, x, level: Level):
        t = net_time(level.t if self.time is None else self.time(level), x)
        phi = self.potential(self.params, x, t, self.cond)
        if self.prediction == "score":
            return phi
        return phi / net_time(level.sigma, x)  # sigma of each sample, shape (n,)


def log_density(net: EnergyNet, params, time=None, cond=None) -> LogDensity:
    """Return the callable (x, level) -> log p_t(x) in nats, shape (n,), up to a constant.

    The constant differs from level to level: denoising does not see it. The gradient in x is the
    score of `fields.from_net(net, params, net.prediction, time, cond)`.

    Args:
      net: an energy net.
      params: its parameters.
      time: Level -> what the net gets as t, as it was trained; None gives `level.t`.
      cond: what the net gets as `cond`.
    """
    return LogDensity(net.potential, params, net.prediction, time, cond)


# Equal bodies give the same functions, so that what is compiled for one serves the other.
@functools.cache
def _energy(net: Net, form: str, prediction: str) -> EnergyNet:
    terms = choose("form", form, FORMS)
    sign = choose("prediction of an energy net", prediction, SIGNS)

    def potential(params, x, t, cond=None):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        psi = net.apply(params, x, t, cond)
        return jnp.sum(terms(x, psi), axis=tuple(range(1, x.ndim)))

    def apply(params, x, t, cond=None):
        # In float32 at least: the gradient of a sum of shorter numbers is rounded at every term.
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        # A sample sees itself alone, so the gradient of the sum holds that of each.
        gradient = jax.grad(lambda x: jnp.sum(potential(params, x, t, cond)))(wide)
        return (sign * gradient).astype(x.dtype)

    return EnergyNet(net.init, apply, potential, prediction)

"""Digits of public samplers on one problem, by the same methods here.

A mixture of five Gaussians in the plane, exact denoiser, four starts at sigma = 157.4, ten steps to
the data. The end points are those of k-diffusion 0.1.1 and diffusers 0.42.1 on torch 2.13 (CPU),
which hold their noise levels in float32.
"""

import numpy as np
import pytest
from solver_by_hand import run

from dfx import schedules, solvers

pytestmark = pytest.mark.usefixtures("x64")

WEIGHTS = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
MEANS = np.array([[1.0, 0.2], [-0.6, 0.9], [-0.9, -0.5], [0.3, -1.1], [0.1, 0.1]])
#: Standard deviations along the two axes and the angle of the first.
AXES = [(0.25, 0.15, 0.5), (0.2, 0.3, -0.3), (0.3, 0.2, 1.0), (0.15, 0.25, 0.0), (0.35, 0.35, 0.0)]
SIGMA_MIN, SIGMA_MAX = 0.01000132982421665, 157.40726936571173
STARTS = np.array(
    [
        [1.764052345967664, 0.4001572083672233],
        [0.9787379841057392, 2.240893199201458],
        [1.8675579901499675, -0.977277879876411],
        [0.9500884175255894, -0.1513572082976979],
    ]
)

#: (name, options, grid) -> end points.
ENDS = {
    ("euler", (), "karras"): [
        [1.103520733, 0.238355023],
        [0.447953683, 0.763120926],
        [1.013838799, -0.039074173],
        [0.822647315, 0.081042846],
    ],
    ("heun", (), "karras"): [
        [1.498010731, 0.362335178],
        [0.710041380, 1.096936561],
        [1.424075864, 0.022526788],
        [1.178019247, 0.169028410],
    ],
    ("kdpm2", (), "karras"): [
        [1.426008927, 0.344363129],
        [0.590248695, 1.099779964],
        [1.302057555, -0.036194015],
        [1.107248230, 0.135239388],
    ],
    ("dpm_solver_pp_2m", (), "karras"): [
        [1.471455328, 0.350411623],
        [0.597808225, 1.016515780],
        [1.362410358, 0.090746537],
        [1.184409072, 0.178980893],
    ],
    ("dpm_solver_pp_2m", (), "exp"): [
        [1.374550596, 0.324537796],
        [0.564040829, 0.998365976],
        [1.257566114, 0.001585160],
        [1.062337588, 0.134539341],
    ],
    ("sde_dpm_solver_pp_3m", (("eta", 0.0), ("variant", "reference")), "karras"): [
        [1.406033534, 0.400044402],
        [0.633486553, 1.028668005],
        [1.383941936, 0.324362811],
        [1.297819811, 0.315494302],
    ],
    ("dpm_solver_pp_3m", (("variant", "reference"), ("lower_order_final", True)), "karras"): [
        [1.533651997, 0.419769223],
        [0.655676402, 1.035483320],
        [1.468216352, 0.359868175],
        [1.405615764, 0.326576793],
    ],
    ("dpm_solver_pp_2m", (("solver_type", "taylor"),), "karras"): [
        [1.609273703, 0.393639330],
        [0.653216363, 1.110808504],
        [1.492572254, 0.143462661],
        [1.320546542, 0.217966188],
    ],
    ("unipc_2", (("lower_order_final", True),), "karras"): [
        [1.476099109, 0.358167090],
        [0.604186466, 1.021644048],
        [1.373159696, 0.117155239],
        [1.205755567, 0.194535166],
    ],
    ("unipc_3", (("lower_order_final", True),), "karras"): [
        [1.482825645, 0.427995666],
        [0.660261203, 1.001615688],
        [1.448427747, 0.439103660],
        [1.422829733, 0.370183057],
    ],
}

#: Their noise levels are rounded to float32, 6e-8, and errors of a start grow by some factors of
#: ten between the modes; diffusers also holds its states in float32.
ACCURACY = 5e-6


def turned(first, second, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([first**2, second**2]) @ turn.T


COVARIANCES = np.stack([turned(*axes) for axes in AXES])


def denoise(x, level):
    """The posterior mean of the mixture at sigma, alpha = 1."""
    noisy = COVARIANCES + level.sigma**2 * np.eye(2)
    gap = x[:, None] - MEANS
    whitened = np.einsum("kij,nkj->nki", np.linalg.inv(noisy), gap)
    logits = np.log(WEIGHTS) - 0.5 * np.linalg.slogdet(noisy)[1] - 0.5 * (gap * whitened).sum(-1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    means = MEANS + np.einsum("kij,nkj->nki", COVARIANCES, whitened)
    return (weights[..., None] * means).sum(1) / weights.sum(1)[:, None]


def grid(kind, n=10):
    """n noise levels, then the data: equal steps of log sigma (exp), of its 7th root (karras)."""
    if kind == "exp":
        levels = np.geomspace(SIGMA_MAX, SIGMA_MIN, n)
    else:
        levels = np.linspace(SIGMA_MAX ** (1 / 7), SIGMA_MIN ** (1 / 7), n) ** 7
    return np.append(levels, 0.0)


@pytest.mark.parametrize("case", ENDS, ids=lambda case: "-".join(map(str, (case[0], case[2]))))
def test_the_public_samplers_digits_come_out(case):
    name, options, kind = case
    tableau = solvers.make(name, schedules.EDM(200.0), grid(kind), **dict(options))
    end = run(tableau, denoise, STARTS * np.sqrt(1 + SIGMA_MAX**2))
    np.testing.assert_allclose(end, ENDS[case], atol=ACCURACY)

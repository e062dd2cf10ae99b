"""Guided sampling on labelled mixtures with exact conditional scores: no net is trained.

What is kept, one file of arrays a stage:

    stability_LAW[_clipped]   part (a): errors of solvers against a tight solve of the guided field
    tilted, ode, sde          part (b): two modes: the tilted laws, and what guidance samples
    pair                      a Gaussian class of a Gaussian law, with closed forms
    corrected, relaxed        Langevin steps at every level, and at the last
    cfgpp_identity, cfgpp_limit, round_trip
                              part (c): CFG++ beside classifier-free guidance
    intervals, autoguidance   part (d): where guidance acts, and guidance by a worse field

Sources: the modules beside this one name them, one module a part.
"""

from __future__ import annotations

from experiments.guided_sampling import stability
from experiments.guided_sampling.cfgpp import run_cfgpp
from experiments.guided_sampling.tilt import run_tilt
from experiments.guided_sampling.where import run_where


def run(config, run) -> None:
    """Run all parts; what is in the run folder already is not done again."""
    labels = [stability.stage(*case) for case in stability.cases(config)]
    run.plan("sde", "corrected", "autoguidance", *labels)
    run_tilt(config, run)
    run_cfgpp(config, run)
    run_where(config, run)
    stability.run_stability(config, run)

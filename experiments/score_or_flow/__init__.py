"""Are trained nets scores, and does it matter: the parts of the study and their order."""

from experiments.score_or_flow.study import run

__all__ = ["run"]

"""Image training: any recipe, net and set, on any mesh; evaluated while it runs and at the end."""

from experiments.images.study import run

__all__ = ["run"]

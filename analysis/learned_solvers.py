"""Figures and claims of the study `learned_solvers`, from its run folder alone.

"Best fixed" is the published solver, grid and last step with the smallest error on the starts that
the fits saw; it is judged, as they are, on others. Intervals are 95% over sets of those (Student's
t), or over mixtures. Ratios are geometric means, over budgets too. With the public packages' own
starts nothing is left to chance: claims 1 have no interval.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from analysis import style
from dfx.runs import Claim, Record, below, exact, from_ratios, read_run
from experiments.shared.public_problem import BEST_PUBLIC, NUM_STARTS

TITLES = {
    "public": "five Gaussians, 2-D",
    "grid": "25 modes, 2-D",
    "digits": "net trained on digits",
}
LOOKS = {
    "best fixed": (style.BLACK, "o", "-"),
    "ddim": (style.GREY, "s", ":"),
    "descend": (style.VERMILLION, "D", "-"),
    "coefficients": (style.ORANGE, "^", "--"),
    "least_squares": (style.BLUE, "v", "--"),
}
NAMES = {
    "best fixed": "best fixed",
    "ddim": "DDIM, best grid",
    "descend": "descent: weights and grid",
    "coefficients": "descent: weights alone",
    "least_squares": "least squares, step by step",
}


class Errors:
    """Errors on starts that no fit saw, shape (budgets, sets) each.

    Attributes:
      budgets: evaluations.
      problems: fields.
    """

    def __init__(self, run: Record):
        """Read the errors of every sampler of the run."""
        self.budgets, self.problems = list(run.config.budgets), list(run.config.problems)
        self.ways, self._run = list(run.config.fit.ways), run
        self.solvers = run.arrays("axes")["solvers"].tolist()

    def of(self, problem: str, sampler: str) -> np.ndarray:
        """Errors of a fit by its way, of "best fixed", or of a published solver in its best way."""
        if sampler in self.ways:
            rows = [self._run.arrays(f"{sampler}_{problem}_{n}")["errors"] for n in self.budgets]
            return np.stack(rows)
        errors = self._run.arrays(f"fixed_{problem}")["errors"]
        return np.stack(
            [errors[*self._best(problem, k, sampler), k, 1:] for k in range(len(self.budgets))]
        )

    def on_public_starts(self, sampler: str) -> np.ndarray | None:
        """The errors on the starts of the public packages, which are judged on first, shape
        (budgets,); None if the sets do not split into these and others."""
        judge = self._run.config.judge
        if NUM_STARTS % judge.num_starts or judge.num_sets * judge.num_starts < NUM_STARTS:
            return None
        return self.of("public", sampler)[:, : NUM_STARTS // judge.num_starts].mean(axis=1)

    def _best(self, problem: str, k: int, sampler: str) -> tuple[int, int]:
        seen = self._run.arrays(f"fixed_{problem}")["errors"][:, :, k, 0]
        if sampler != "best fixed":
            row = self.solvers.index(sampler)
            return row, int(np.nanargmin(seen[row]))
        solver, use = np.unravel_index(np.nanargmin(seen), seen.shape)
        return int(solver), int(use)

    def ratio(self, problem: str, one: str, other: str) -> np.ndarray:
        """The error of one sampler over that of another, geometric mean over the budgets up to 10,
        shape (sets,)."""
        few = np.asarray(self.budgets) <= 10
        logs = np.log(self.of(problem, one)[few]) - np.log(self.of(problem, other)[few])
        return np.exp(logs.mean(axis=0))


def analyse(folder: Path) -> list[Claim]:
    """Draw every figure and return the claims."""
    run = read_run(folder)
    errors = Errors(run)
    style.save(work_precision(run, errors), run.figures, "learned_and_fixed")
    style.save(what_was_learned(run, errors), run.figures, "what_was_learned")
    claims = public_claims(errors) + fixed_claims(errors)
    if "public" in errors.problems:
        style.save(mixtures(run, errors), run.figures, "mixtures")
        claims.append(mixture_claim(run, errors))
    return claims


def public_claims(errors: Errors) -> list[Claim]:
    """Claims 1: fitted samplers against the best of public packages, from the same starts."""
    found = errors.on_public_starts("descend") if "public" in errors.problems else None
    if found is None:
        return []
    shown = [n for n in errors.budgets if n in BEST_PUBLIC]
    return [
        exact(
            found[errors.budgets.index(n)] / BEST_PUBLIC[n][0],
            id=f"1{letter}", paper=BEST_PUBLIC[n][1], paper_value=f"{BEST_PUBLIC[n][0]:.3g}",
            statement=f"{n} evaluations: error fitted by descent over the best public one",
            rule=below(1.0),
        )
        for letter, n in zip("abc", shown)
    ]  # fmt: skip


#: id, better, worse, statement, paper.
RATIOS = (
    ("2", "descend", "best fixed", "fitted by descent over the best fixed", "Shaul et al. 2023"),
    ("3", "descend", "coefficients", "weights and grid fitted over weights alone", "-"),
    ("4", "least_squares", "ddim", "least squares over DDIM", "Duan et al. 2023"),
    ("5", "least_squares", "best fixed", "least squares over the best fixed", "-"),
)


def fixed_claims(errors: Errors) -> list[Claim]:
    """Claims 2 to 5: up to ten evaluations, on every field."""
    return [
        from_ratios(
            errors.ratio(problem, one, other), id=f"{number}{letter}", paper=paper,
            paper_value="< 1", statement=f"{TITLES[problem]}: {statement}", rule=below(1.0),
        )
        for number, one, other, statement, paper in RATIOS
        if {one, other} <= {*errors.ways, "best fixed", "ddim"}
        for letter, problem in zip("abc", errors.problems)
    ]  # fmt: skip


def mixture_claim(run: Record, errors: Errors) -> Claim:
    """Claim 6: fitted on one mixture, a sampler is better on others as well."""
    few = np.asarray(errors.budgets) <= 10
    found = np.log(run.arrays("mixtures")["errors"][few])  # (budgets, samplers, mixtures)
    return from_ratios(
        np.exp((found[:, 0] - found[:, 1]).mean(axis=0)), id="6", paper="-", paper_value="< 1",
        statement="on other mixtures: fitted on one over best fixed on that one", rule=below(1.0),
    )  # fmt: skip


def work_precision(run: Record, errors: Errors):
    """Error on other starts against evaluations, for every field."""
    fig, axes = style.figure(1, len(errors.problems), aspect=1.05)
    for ax, problem in zip(axes.flat, errors.problems):
        for name, (color, marker, dash) in LOOKS.items():
            if name in (*errors.ways, "best fixed", "ddim"):
                style.band(
                    ax, errors.budgets, errors.of(problem, name).T, NAMES[name], geometric=True,
                    color=color, marker=marker, linestyle=dash, markersize=4, linewidth=1.2,
                )  # fmt: skip
        if problem == "public":
            shown = [n for n in errors.budgets if n in BEST_PUBLIC]
            ax.plot(
                shown, [BEST_PUBLIC[n][0] for n in shown], "*", color=style.PURPLE, markersize=8,
                label=f"best public, {NUM_STARTS} starts",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=TITLES[problem], xlabel="evaluations")
        ax.set_xticks(errors.budgets, [str(n) for n in errors.budgets])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("mean error")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def what_was_learned(run: Record, errors: Errors):
    """Noise levels of the fitted grids beside the one they began with, and their weights beside the
    second-order ones."""
    budget = max(n for n in errors.budgets if n <= 10)
    fig, axes = style.figure(1, 2, width=0.8 * style.PAGE, aspect=0.9)
    colors = dict(zip(errors.problems, (style.VERMILLION, style.BLUE, style.GREEN)))
    exponent = run.config.fit.exponent
    for problem, color in colors.items():
        fit = run.arrays(f"descend_{problem}_{budget}")
        times, steps = fit["times"][:-1], np.arange(budget)
        axes[0, 0].plot(
            steps, times / (1 - times), "o-", color=color, markersize=4, label=TITLES[problem]
        )
        begun = np.linspace(times[0] ** (1 / exponent), 0, budget + 1)[:-1] ** exponent
        axes[0, 0].plot(steps, begun / (1 - begun), ":", color=color, linewidth=1)
        half_log_snr = np.log((1 - times) / times)
        ratio = np.diff(half_log_snr)[1:] / np.diff(half_log_snr)[:-1]
        axes[0, 1].plot(steps[1:], fit["corrections"][1:, 0], "o-", color=color, markersize=4)
        axes[0, 1].plot(steps[1:-1], -ratio / 2, ":", color=color, linewidth=1)
    axes[0, 0].set(yscale="log", xlabel="step", ylabel=r"noise $\sigma / \alpha$")
    axes[0, 1].set(xlabel="step", ylabel=r"weight of the $\hat x_0$ before")
    for ax in axes.flat:
        ax.set_xticks(range(0, budget, 2))
    handles = axes[0, 0].get_legend_handles_labels()[0]
    begun = Line2D(
        [], [], color=style.BLACK, linestyle=":", label="grid it began with; 2M's weight"
    )
    fig.legend(handles=[*handles, begun], loc="outside lower center", ncols=2)
    style.panel_labels(axes.flat)
    return fig


def mixtures(run: Record, errors: Errors):
    """Errors on other mixtures: fitted on the public one against best fixed on the public one."""
    found = run.arrays("mixtures")["errors"]
    fig, ax = style.figure(1, 1, width=style.COLUMN, aspect=0.95)
    ax = ax[0, 0]
    colors = style.COLORS
    for k, n in enumerate(errors.budgets):
        ax.plot(
            found[k, 1], found[k, 0], "o", color=colors[k % len(colors)], markersize=4, label=str(n)
        )
    ends = np.array([found.min(), found.max()])
    ax.plot(ends, ends, color=style.GREY, linestyle="--", linewidth=1)
    ax.text(*ends[[1, 1]], "equal ", color=style.GREY, fontsize=8, ha="right", va="bottom")
    ax.set(xscale="log", yscale="log", xlabel="error, best fixed", ylabel="error, fitted")
    ax.legend(title="evaluations", fontsize=7, title_fontsize=7)
    return fig

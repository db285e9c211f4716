"""Figures of a study: score against cost, scores over rounds, scores per skill, and differences of ranks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from adapt_infinity.reporting.figures.style import FAINT, INK, PALETTE, PAPER, SHADES, SOFT, cut, put_title, tidy
from adapt_infinity.study.results import COSTS, LAST, SCORES
from adapt_infinity.study.statistics import Ranks, estimate

_SCORE_COLOURS = LinearSegmentedColormap.from_list("scores", SHADES)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def cost_map(summary: pd.DataFrame, measure: str = "all skills") -> Figure:
    """Mean score against FLOPs of selection and training, with 95 % intervals; a line joins the Pareto front."""
    score = summary[(summary["view"] == SCORES) & (summary["measure"] == measure)]
    cost = summary[(summary["view"] == COSTS) & (summary["measure"] == "total_flops")]
    key = ["strategy", "method"]
    points = score.merge(cost, on=key, suffixes=("", "_cost")).dropna(subset=["mean", "mean_cost"])
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(points["strategy"].unique(), _cycle(PALETTE), strict=False))
    markers = dict(zip(points["method"].unique(), _cycle(_MARKERS), strict=False))
    for row in points.to_dict("records"):
        x, y = row["mean_cost"] / 1e12, 100 * row["mean"]
        x_error, y_error = _error(row["half_cost"] / 1e12), _error(100 * row["half"])
        colour = colours[row["strategy"]]
        style = {"fmt": markers[row["method"]], "color": colour, "ecolor": FAINT, "markersize": 7, "zorder": 3}
        axes.errorbar(x, y, xerr=x_error, yerr=y_error, **style)
        axes.annotate(_label(row, points), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=7.5, color=INK)
    front = pareto(points["mean_cost"].to_numpy(), points["mean"].to_numpy())
    axes.plot(
        points["mean_cost"].to_numpy()[front] / 1e12, 100 * points["mean"].to_numpy()[front], color=SOFT, zorder=2
    )
    axes.set_xlabel("selection and training, TFLOP", fontsize=9, color=INK)
    axes.set_ylabel(f"mean score of {measure}, points", fontsize=9, color=INK)
    tidy(axes, spines=("left", "bottom"))
    put_title(figure, "Score and cost", "Means over seeds, 95 % intervals. Line: nothing is both better and cheaper.")
    return figure


def pareto(cost: np.ndarray, score: np.ndarray) -> list[int]:
    """Indices of the points for which no other is both better and cheaper, by rising cost."""
    front: list[int] = []
    for index in np.lexsort((-score, cost)).tolist():
        if not front or score[index] > score[front[-1]]:
            front.append(index)
    return front


def compared(table: pd.DataFrame) -> tuple[str, str]:
    """The column that a figure compares, and the column with one panel or figure per value.

    A figure compares strategies, with one panel per method. If the study has only one strategy, it compares methods.
    """
    methods_only = table["strategy"].nunique() == 1 < table["method"].nunique()
    return ("method", "strategy") if methods_only else ("strategy", "method")


def forgetting_lines(curves: pd.DataFrame) -> Figure:
    """The mean score of the skills that have arrived, over rounds; bands are 95 % intervals over seeds."""
    lines, panel = compared(curves)
    titles = list(curves[panel].unique())
    figure = Figure(figsize=(max(6.4, 4.2 * len(titles)), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(titles), sharey=True))
    colours = dict(zip(curves[lines].unique(), _cycle(PALETTE), strict=False))
    for axes, title in zip(panels, titles, strict=True):
        for line, part in curves[curves[panel] == title].groupby(lines, sort=False):
            means = {round: estimate(seeds["value"].to_numpy()) for round, seeds in part.groupby("round")}
            x, y = list(means), np.array([100 * mean.mean for mean in means.values()])
            half = np.nan_to_num([100 * mean.half for mean in means.values()])
            axes.plot(x, y, color=colours[line], marker="o", markersize=3, label=line)
            axes.fill_between(x, y - half, y + half, color=colours[line], alpha=0.12, linewidth=0)
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xticks(sorted(curves["round"].unique()))
        axes.set_xlabel("round", fontsize=9, color=INK)
        tidy(axes, spines=("left", "bottom"))
    panels[0].set_ylabel("points", fontsize=9, color=INK)
    panels[-1].legend(fontsize=7.5, frameon=False)
    put_title(figure, "Score over the rounds", "Mean score of the skills that have arrived by then.")
    return figure


def skill_map(summary: pd.DataFrame, under: str, rare: Sequence[str] = ()) -> Figure:
    """Scores of all skills after the last round: one row per strategy for a method, or per method for a strategy."""
    rows, panel = compared(summary)
    last = summary[(summary["view"] == LAST) & (summary[panel] == under)]
    named, skills = list(last[rows].unique()), list(last["measure"].unique())
    values = last.pivot(index=rows, columns="measure", values="mean").reindex(named, columns=skills)
    figure = Figure(figsize=(0.42 * len(skills) + 2.6, 0.34 * len(named) + 2.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values.to_numpy(), cmap=_SCORE_COLOURS, vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values.to_numpy()):
        if np.isfinite(value):
            colour = PAPER if value > 0.55 else INK
            axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    names = [f"{skill} (rare)" if skill in rare else skill for skill in skills]
    axes.set_xticks(range(len(skills)), names, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(named)), named)
    tidy(axes, spines=())
    put_title(figure, f"Every skill after the last round ({under})", "Points, means over seeds.")
    return figure


def rank_line(ranks: Ranks, method: str) -> Figure:
    """Mean ranks on a line; a bar joins those without a significant difference (Demšar 2006, figure 1)."""
    order = np.argsort(ranks.means)
    count = len(order)
    groups = cliques(ranks.means[order], ranks.critical)
    figure = Figure(figsize=(7.6, 1.9 + 0.26 * count + 0.1 * len(groups)), layout="constrained")
    axes = figure.subplots()
    low, high = 1.0, float(count)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.12], color=SOFT, linewidth=1)
        axes.text(tick, 0.2, str(tick), ha="center", va="bottom", fontsize=8, color=INK)
    axes.plot([low, high], [0, 0], color=SOFT, linewidth=1)
    axes.plot([low, low + ranks.critical], [0.75, 0.75], color=INK, linewidth=2)
    axes.text(low + ranks.critical / 2, 0.82, f"critical difference {ranks.critical:.2f}", ha="center", fontsize=8)
    below = 0.25 + 0.16 * len(groups)
    for line, (first, final) in enumerate(groups):
        y = -0.14 - 0.16 * line
        axes.plot(
            [ranks.means[order][first] - 0.03, ranks.means[order][final] + 0.03], [y, y], color=PALETTE[0], linewidth=3
        )
    for position, name in enumerate(order):
        left = position < (count + 1) // 2
        y = -below - 0.3 * (position if left else count - 1 - position)
        end, side = (low - 0.35, "right") if left else (high + 0.35, "left")
        mean = ranks.means[name]
        axes.plot([mean, mean, end], [0, y, y], color=SOFT, linewidth=0.8)
        axes.text(end, y, f" {cut(ranks.names[name], 24)} ({mean:.2f}) ", ha=side, va="center", fontsize=8, color=INK)
    axes.set_xlim(low - 0.3 * count - 0.6, high + 0.3 * count + 0.6)
    axes.set_axis_off()
    note = (
        f"Mean rank of the last score over {ranks.blocks} blocks of a skill and a seed; 1 is best. Friedman p = "
        f"{ranks.p:.2g}. Blocks of one seed share a model, so differences look more significant than they are."
    )
    put_title(figure, f"Significant differences of ranks ({method})", note)
    return figure


def cliques(means: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """First and last index of each longest run of sorted means within the critical difference."""
    runs: list[tuple[int, int]] = []
    for first in range(len(means)):
        final = int(np.searchsorted(means, means[first] + critical, side="right")) - 1
        if final > first and (not runs or final > runs[-1][1]):
            runs.append((first, final))
    return runs


def _label(row: dict[Any, Any], points: pd.DataFrame) -> str:
    parts = [row[name] for name in ("strategy", "method") if points[name].nunique() > 1]
    return ", ".join(parts or [row["strategy"]])


def _error(half: float) -> float | None:
    return half if np.isfinite(half) else None


def _cycle(values: Sequence[str]) -> list[str]:
    return [values[index % len(values)] for index in range(64)]

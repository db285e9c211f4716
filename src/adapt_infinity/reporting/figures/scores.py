"""The score matrix R as a heat map, and scores over rounds as curves."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from adapt_infinity.data.tables import require_columns
from adapt_infinity.reporting.figures.style import FAINT, INK, PALETTE, PAPER, SHADES, SOFT, cut, put_title, tidy

MARKERS = "osD^vPX*"
_SCORE_COLOURS = LinearSegmentedColormap.from_list("scores", SHADES)


def score_heat_map(score_matrix: pd.DataFrame, own: Mapping[str, int] | None = None) -> Figure:
    """The score matrix: one row per round, one column per skill, grouped by dataset.

    `own` maps a skill to the first round that trains it; this cell has a box.
    """
    require_columns(score_matrix, "score_matrix", ["round", "dataset", "skill", "score"])
    order = _datasets(score_matrix, own or {})
    benchmarks = score_matrix[["dataset", "skill"]].drop_duplicates()
    columns = [(d, s) for d in order for s in benchmarks.loc[benchmarks["dataset"] == d, "skill"]]
    rounds = sorted(int(t) for t in score_matrix["round"].unique())
    cells = score_matrix.set_index(["round", "dataset", "skill"])["score"].to_dict()
    scores = np.array([[cells.get((t, *column), np.nan) for column in columns] for t in rounds])
    gaps = np.cumsum([0, *(a != b for (a, _), (b, _) in pairwise(columns))])
    at = np.arange(len(columns)) + 0.22 * gaps

    width, height = max(6.0, 0.46 * at[-1] + 2.4), 0.36 * len(rounds) + 2.6
    figure, axes = _one_panel(width, height)
    boxes = []
    for i, row in enumerate(scores):
        for x, score, (_, skill) in zip(at, row, columns, strict=True):
            missing = bool(np.isnan(score))
            colour = PAPER if missing else _SCORE_COLOURS(score)
            square = Rectangle((x - 0.5, i - 0.5), 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=1)
            axes.add_patch(square)
            text = "n/a" if missing else f"{score:.2f}".removeprefix("0").replace("1.00", "1.0")
            ink = PAPER if not missing and score > 0.55 else INK
            axes.text(x, i, text, ha="center", va="center", fontsize=7.5, color=ink)
            if (own or {}).get(skill) == rounds[i]:
                boxes.append(Rectangle((x - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=PALETTE[1], linewidth=2))
    for box in boxes:  # last, so that they are on top of other cells
        axes.add_patch(box)
    letters = (width - 2) / (at[-1] + 1) / 0.078  # of a dataset's name that fit over one column
    for dataset in order:
        inside = at[[d == dataset for d, _ in columns]]
        axes.plot([inside[0] - 0.45, inside[-1] + 0.45], [-0.72, -0.72], color=INK, linewidth=1, clip_on=False)
        label = textwrap.fill(dataset, max(8, int(len(inside) * letters)))
        axes.text(inside.mean(), -0.85, label, ha="center", va="bottom", fontsize=8.5, color=INK)
    axes.set_xlim(-0.5, at[-1] + 0.5)
    axes.set_ylim(len(rounds) - 0.5, -0.75)
    axes.set_xticks(at, [skill for _, skill in columns], rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rounds)), ["zero-shot" if t == 0 else f"round {t}" for t in rounds])
    tidy(axes, spines=())
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _SCORE_COLOURS), ax=axes, shrink=0.8, aspect=18, pad=0.01, fraction=0.04
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7.5, labelcolor=SOFT)
    put_title(figure, _heat_map_title(scores, rounds), "box: first round that trains the skill" if own else "")
    return figure


def forgetting_curves(score_matrix: pd.DataFrame, own: Mapping[str, int]) -> Figure:
    """Scores over rounds: one panel per dataset, one line per skill.

    `own` maps a skill to the first round that trains it. Lines are dotted before this round and solid after it, and
    dashed for skills that are never trained.
    """
    require_columns(score_matrix, "score_matrix", ["round", "dataset", "skill", "score"])
    order = _datasets(score_matrix, own)
    across = len(order) if len(order) <= 3 else 2 if len(order) == 4 else 3
    down = -(-len(order) // across)
    figure = Figure(figsize=(3.9 * across + 0.4, 2.5 * down + 0.9), layout="constrained", facecolor=PAPER)
    panels = np.asarray(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)).ravel()
    last = int(score_matrix["round"].max())
    style = {skill: k for k, skill in enumerate(dict.fromkeys(score_matrix["skill"]))}
    for axes, dataset in zip(panels, order, strict=False):
        ends: list[tuple[float, str, str]] = []
        for skill, part in score_matrix[score_matrix["dataset"] == dataset].groupby("skill", sort=False):
            name = str(skill)
            line = part.sort_values("round")
            t, y = line["round"].to_numpy(), line["score"].to_numpy()
            colour, marker = _style(style[name])
            if name in own:
                before, since = t <= own[name], t >= own[name]
                early = {"linewidth": 1, "alpha": 0.55, "linestyle": (0, (1, 1.5))}
                axes.plot(t[before], y[before], color=colour, **early)
                axes.plot(t[since], y[since], color=colour, linewidth=2, marker=marker, markersize=4)
            else:
                never = {"linewidth": 1.4, "linestyle": (0, (5, 2)), "marker": marker, "markersize": 3}
                axes.plot(t, y, color=colour, **never)
            ends.append((float(y[-1]), name if name in own else f"{name} *", colour))
        _label_ends(axes, last, ends)
        axes.set_title(_headline(dataset, score_matrix, own), loc="left", fontsize=9.5, color=INK)
        axes.set_xlim(-0.15, last * 1.02 + 0.1)
        axes.set_ylim(-0.02, 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=min(8, last + 1)))
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        tidy(axes, spines=("bottom",))
    for axes in panels[max(0, len(order) - across) : len(order)]:
        axes.tick_params(labelbottom=True)
    for axes in panels[len(order) :]:
        axes.set_visible(False)
    figure.supxlabel("round (0: zero-shot)", fontsize=9, color=SOFT)
    figure.supylabel("score", fontsize=9, color=SOFT)
    note = "dotted: before the first round that trains the skill, solid: after it"
    if any(skill not in own for skill in score_matrix["skill"]):
        note += ", dashed and *: never trained"
    put_title(figure, _forgetting_title(score_matrix, own), note)
    return figure


def _datasets(score_matrix: pd.DataFrame, own: Mapping[str, int]) -> list[str]:
    """Datasets in the order of the rounds that first train their skills; untrained datasets are last."""
    skills = score_matrix.groupby("dataset", sort=False)["skill"].unique()
    first = {str(d): max((own.get(str(s), 10**6) for s in names), default=0) for d, names in skills.items()}
    return sorted(first, key=lambda d: first[d])


def _style(index: int) -> tuple[str, str]:
    return PALETTE[index % len(PALETTE)], MARKERS[index // len(PALETTE) % len(MARKERS)]


def _label_ends(axes: Axes, last: int, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write skill names to the right of their lines, in the order of the lines, moved so that they do not overlap."""
    step = 0.085
    ordered = sorted(ends)
    rank = step * np.arange(len(ordered))
    free = np.array([y for y, _, _ in ordered]) - rank
    raised, lowered = np.maximum.accumulate(free), np.minimum.accumulate(free[::-1])[::-1]
    centred = (raised + lowered) / 2  # in both the names do not overlap, so neither in their mean
    at = np.clip(centred, min(0, 1.02 - rank[-1]), 1.02 - rank[-1]) + rank
    for y, (score, name, colour) in zip(at, ordered, strict=True):
        axes.annotate(
            f"{cut(name, 24)}  {score:.2f}", (last, score), (last + 0.03 * max(last, 1) + 0.12, y),
            fontsize=7.5, color=colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip


def _heat_map_title(scores: Float[np.ndarray, "rounds columns"], rounds: Sequence[int]) -> str:
    """The mean score after the last round, and how many benchmarks were better before."""
    if len(rounds) == 1:
        return f"Zero-shot scores: mean {np.nanmean(scores[0]):.2f} over {scores.shape[1]} benchmarks"
    best = np.fmax.reduce(scores[:-1], axis=0)
    fallen = int((best - scores[-1] >= 0.05).sum())
    last = f"After round {rounds[-1]}: mean score {np.nanmean(scores[-1]):.2f}"
    return f"{last}; {fallen} of {scores.shape[1]} benchmarks at least 0.05 below their best"


def _forgetting_title(score_matrix: pd.DataFrame, own: Mapping[str, int]) -> str:
    drops = [
        (_drop(part, own[str(s)]), str(s))
        for (_, s), part in score_matrix.groupby(["dataset", "skill"], sort=False)
        if s in own and part["round"].max() > own[str(s)]
    ]
    drop, worst = max(drops, default=(0.0, ""))
    if drop < 0.005:
        return "No skill is below its best score since it was trained"
    return f"{worst} was forgotten most: {drop:.2f} below its best score since it was trained"


def _headline(dataset: str, score_matrix: pd.DataFrame, own: Mapping[str, int]) -> str:
    skills = score_matrix.loc[score_matrix["dataset"] == dataset, "skill"]
    starts = [own[s] for s in skills if s in own]
    return f"{dataset} (from round {min(starts)})" if starts else f"{dataset} (never trained)"


def _drop(part: pd.DataFrame, start: int) -> float:
    since = part[part["round"] >= start].sort_values("round")["score"].to_numpy()
    return float(since.max() - since[-1])


def _one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    return figure, figure.subplots()

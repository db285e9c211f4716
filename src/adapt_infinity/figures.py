"""What a round looks like: the matrix R, forgetting, what was chosen, where it lies.

Every function takes tables and returns a `matplotlib.figure.Figure` of its own (no pyplot, no global state).
Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart; no figure needs colour
alone.
"""

import textwrap
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter
from sklearn.decomposition import PCA

INK, SOFT, FAINT, PAPER = "#222222", "#6b6b6b", "#dddddd", "white"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
MARKERS = "osD^vPX*"
_SHADES = ["#f7f4ec", "#bcd7dd", "#5fa2bd", "#0072B2", "#053a5f"]
_SCORES = LinearSegmentedColormap.from_list("scores", _SHADES)
SHEET = 12  # samples on a sheet
CLUSTERS, THUMBNAILS, THUMBNAIL = 24, 4, 160  # on a sheet of clusters: rows, pictures in a row, pixels of a side
_FITTED_ON = 4096  # rows that fix the axes of a projection


def sample_sheet(
    titles: Sequence[str], pictures: Sequence[Sequence[np.ndarray]], said: Sequence[Sequence[tuple[str, str]]]
) -> Figure:
    """Samples as a reader meets them: pictures (rows, columns, 3) on the left, what is said on the right."""
    rows = -(-len(titles) // 2)
    figure = Figure(figsize=(11, 1.35 * rows + 0.2), facecolor=PAPER, layout="constrained")
    grid = figure.add_gridspec(rows, 4, width_ratios=[1, 3, 1, 3])
    for place, (title, shown, turns) in enumerate(zip(titles, pictures, said, strict=True)):
        row, left = place % rows, 2 * (place // rows)
        text = figure.add_subplot(grid[row, left + 1])
        text.set_axis_off()
        lines = [f"{'Q' if role == 'user' else 'A'}: {' '.join(words.split())}" for role, words in turns[:4]]
        body = "\n".join(textwrap.shorten(line, 110, placeholder=" …") for line in lines)
        body = "\n".join(wrapped for line in body.splitlines() for wrapped in textwrap.wrap(line, 52))
        text.text(0, 1, title, fontsize=8, color=SOFT, va="top", parse_math=False)
        text.text(0, 0.82, body, fontsize=8, color=INK, **_PLAIN)
        if shown:
            height = min(picture.shape[0] for picture in shown)
            strip = np.concatenate([_of_height(picture, height) for picture in shown[:4]], axis=1)
            axes = figure.add_subplot(grid[row, left])
            axes.imshow(strip, interpolation="nearest" if height < 100 else "antialiased")
            axes.set_axis_off()
    return figure


def score_heat_map(score_matrix: pd.DataFrame, own: Mapping[str, int] | None = None) -> Figure:
    """R: a row per round, a column per skill, grouped by dataset; boxed: first trained in this round."""
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
            colour = PAPER if missing else _SCORES(score)
            square = Rectangle((x - 0.5, i - 0.5), 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=1)
            axes.add_patch(square)
            text = "n/a" if missing else f"{score:.2f}".removeprefix("0").replace("1.00", "1.0")
            ink = PAPER if not missing and score > 0.55 else INK
            axes.text(x, i, text, ha="center", va="center", fontsize=7.5, color=ink)
            if (own or {}).get(skill) == rounds[i]:
                boxes.append(Rectangle((x - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=PALETTE[1], linewidth=2))
    for box in boxes:  # last, on top of their neighbours
        axes.add_patch(box)
    letters = (width - 2) / (at[-1] + 1) / 0.078  # of a dataset's name, that fit over one column
    for dataset in order:
        inside = at[[d == dataset for d, _ in columns]]
        axes.plot([inside[0] - 0.45, inside[-1] + 0.45], [-0.72, -0.72], color=INK, linewidth=1, clip_on=False)
        label = textwrap.fill(dataset, max(8, int(len(inside) * letters)))
        axes.text(inside.mean(), -0.85, label, ha="center", va="bottom", fontsize=8.5, color=INK)
    axes.set_xlim(-0.5, at[-1] + 0.5)
    axes.set_ylim(len(rounds) - 0.5, -0.75)
    axes.set_xticks(at, [skill for _, skill in columns], rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rounds)), ["zero-shot" if t == 0 else f"round {t}" for t in rounds])
    _tidy(axes, spines=())
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), _SCORES), ax=axes, shrink=0.8, aspect=18, pad=0.01, fraction=0.04
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7.5, labelcolor=SOFT)
    _title(figure, _heat_map_title(scores, rounds), "boxed: first trained in this round" if own else "")
    return figure


def forgetting_curves(score_matrix: pd.DataFrame, own: Mapping[str, int]) -> Figure:
    """A panel per dataset, a line per skill: dotted before its own round, solid since, dashed if none."""
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
        _tidy(axes, spines=("bottom",))
    for axes in panels[max(0, len(order) - across) : len(order)]:
        axes.tick_params(labelbottom=True)
    for axes in panels[len(order) :]:
        axes.set_visible(False)
    figure.supxlabel("round (0: zero-shot)", fontsize=9, color=SOFT)
    figure.supylabel("score", fontsize=9, color=SOFT)
    note = "dotted: before its own round, solid: since"
    if any(skill not in own for skill in score_matrix["skill"]):
        note += ", dashed and *: trained by no arrival"
    _title(figure, _forgetting_title(score_matrix, own), note)
    return figure


def subset_composition(subset: pd.DataFrame) -> Figure:
    """Shares of the chosen samples (dots) against shares of the pool (rings), by source and by cluster."""
    sources = _shares(subset, "source")
    clusters = _shares(subset, "cluster")
    height = max(3.6, 0.3 * len(sources) + 1.9)
    figure = Figure(figsize=(11, height), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.5])

    rows = np.arange(len(sources))
    left.hlines(rows, sources["pool"], sources["chosen"], color=FAINT, linewidth=3)
    left.scatter(sources["pool"], rows, s=42, facecolor=PAPER, edgecolor=SOFT, linewidth=1.4, zorder=3)
    left.scatter(sources["chosen"], rows, s=42, color=PALETTE[0], zorder=4)
    left.set_yticks(rows, [_cut(str(name), 26) for name in sources.index])
    left.set_ylim(len(sources) - 0.5, -0.5)
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_xlim(left=0)
    left.grid(axis="x", color=FAINT, linewidth=0.7)
    left.set_title("by source", loc="left", fontsize=9.5, color=INK)
    _tidy(left, spines=())

    columns = np.arange(len(clusters))
    right.vlines(columns, clusters["pool"], clusters["chosen"], color=FAINT, linewidth=min(3, 120 / len(columns)))
    dot = 42 if len(columns) <= 40 else 14
    ring = {"facecolor": PAPER, "edgecolor": SOFT, "linewidth": 1.2, "zorder": 3}
    right.scatter(columns, clusters["pool"], s=dot, label="in the pool", **ring)
    right.scatter(columns, clusters["chosen"], s=dot, color=PALETTE[0], zorder=4, label="among the chosen")
    every = -(-len(columns) // 40)
    right.set_xticks(columns[::every], [str(name) for name in clusters.index[::every]])
    right.tick_params(axis="x", labelrotation=90 if len(columns) > 20 else 0)
    right.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    decimals = 0 if clusters.to_numpy().max() > 0.05 else 1
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=decimals))
    right.set_ylim(bottom=0)
    right.grid(axis="y", color=FAINT, linewidth=0.7)
    right.set_title("by cluster, largest first", loc="left", fontsize=9.5, color=INK)
    right.legend(frameon=False, fontsize=8.5, loc="upper right", labelcolor=INK, handletextpad=0.2)
    _tidy(right, spines=())
    chosen = int(subset["selected"].sum())
    gain = (sources["chosen"] - sources["pool"]).sort_values()
    note = f"{gain.index[-1]} gains most ({100 * gain.iloc[-1]:+.0f} points of share)" if len(gain) > 1 else ""
    _title(figure, f"{chosen:,} of {len(subset):,} samples chosen", note)
    return figure


def cluster_map(points: pd.DataFrame) -> Figure:
    """The pool in the plane, coloured by skill and by source: columns x, y, cluster, skill, source, selected.

    Chosen samples are full dots, the others pale; a number stands at the median of each cluster.
    """
    figure = Figure(figsize=(11.5, 5.4), layout="constrained", facecolor=PAPER)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    size = float(np.clip(9000 / max(len(points), 1), 1.5, 22))
    chosen = points["selected"].to_numpy(bool)
    for axes, column in zip(panels, ("skill", "source"), strict=True):
        groups = points[column].value_counts(sort=True)
        named = [str(name) for name in groups.index[: len(PALETTE)]]
        colours = dict(zip(named, PALETTE, strict=False))
        colour = np.array([colours.get(str(name), SOFT) for name in points[column]])
        x, y = points["x"].to_numpy(), points["y"].to_numpy()
        pale, full = {"s": size, "alpha": 0.22}, {"s": 1.5 * size}
        for these, style in ((~chosen, pale), (chosen, full)):
            axes.scatter(x[these], y[these], c=colour[these], linewidth=0, rasterized=True, **style)
        for name in named:
            axes.scatter([], [], s=26, color=colours[name], label=_cut(name, 22))
        if len(groups) > len(named):
            rest = len(groups) - len(named)
            axes.scatter([], [], s=26, color=SOFT, label=f"{rest} other{'s' if rest > 1 else ''}")
        axes.legend(
            frameon=False, fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(-0.02, -0.01),
            handletextpad=0.1, columnspacing=0.8, labelcolor=INK,
        )  # fmt: skip
        for cluster, at in _apart(points):
            axes.text(
                at[0], at[1], str(cluster), ha="center", va="center", fontsize=7.5, weight="bold",
                color=INK, path_effects=[withStroke(linewidth=2.2, foreground=PAPER)],
            )  # fmt: skip
        axes.set_title(f"by {column}", loc="left", fontsize=9.5, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        _tidy(axes, spines=())
    clusters = points["cluster"].nunique()
    note = "full: chosen, pale: not; a number stands at the middle of a cluster, where there is room"
    _title(figure, f"{len(points):,} samples in {clusters} clusters", note)
    return figure


def k_sweep_figure(k_sweep: pd.DataFrame) -> Figure:
    """Within-cluster sum, silhouette and stability over k, the chosen k marked; of a given k what is known of it."""
    chosen = k_sweep[k_sweep["chosen"]].iloc[0]
    if len(k_sweep) == 1 and pd.isna(chosen["stability"]):
        return _given_k(chosen)
    figure = Figure(figsize=(11, 3.5), layout="constrained", facecolor=PAPER)
    panels = {"silhouette": "higher: further apart", "stability": "1: halves agree", "within": "sum of squares"}
    for axes, (column, meaning) in zip(figure.subplots(1, 3, sharex=True), panels.items(), strict=True):
        known = k_sweep[k_sweep[column].notna()]
        axes.axvline(chosen["k"], color=FAINT, linewidth=6, zorder=0)
        axes.plot(known["k"], known[column].astype(float), color=PALETTE[0], linewidth=1.6, marker="o", markersize=4)
        value = "undefined"
        if pd.notna(chosen[column]):
            axes.scatter([chosen["k"]], [float(chosen[column])], s=64, color=PALETTE[1], zorder=3)
            value = f"{chosen[column]:,.0f}" if column == "within" else f"{chosen[column]:.2f}"
        axes.set_title(f"{column} {value} ({meaning})", loc="left", fontsize=9.5, color=INK)
        axes.set_xscale("log", base=2)
        axes.set_xticks(_thinned(k_sweep["k"].tolist()))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.06, y=0.14)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        _tidy(axes, spines=("bottom",))
    figure.supxlabel("k", fontsize=9, color=SOFT)
    note = f"tried on {chosen['rows']:,} rows; of the stable candidates the one with the highest silhouette is taken"
    _title(figure, f"{chosen['k']} clusters are chosen of {len(k_sweep)} candidates", note)
    return figure


def cluster_sheet(cards: pd.DataFrame, told: Mapping[int, tuple[str, np.ndarray | None]], clusters: int) -> Figure:
    """A row a cluster: what it is about, how large and of which skills, and its nearest samples.

    `told` has, for each of these, what is asked first and its picture (rows, columns, 3), if it has one. `clusters`
    is how many there are in all.
    """
    width, top, height = 12.0, 0.72, 1.12  # inches; of the whole, of the title, of a row
    left, each = 3.15, 2.2  # of the words, of a sample
    whole = top + height * len(cards)
    figure = Figure(figsize=(width, whole), facecolor=PAPER)
    for place, card in enumerate(cards.to_dict("records")):
        base = whole - top - height * (place + 1)
        strip = _place(figure, 0.0, base, width, height)
        strip.set(xlim=(0, width), ylim=(0, height))
        strip.axhline(height, color=FAINT, linewidth=0.8)
        _card(strip, card, height)
        for number, sample in enumerate(list(card["nearest"])[:THUMBNAILS]):
            question, picture = told[int(sample)]
            x = left + each * number
            if picture is not None:
                axes = _place(figure, x, base + 0.12, 0.86, height - 0.24)
                axes.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else "antialiased")
                axes.set_anchor("NW")
            start, letters = (x + 0.94, 19) if picture is not None else (x, 33)
            strip.text(start, height - 0.13, _wrapped(question, letters, 6), fontsize=7, color=INK, **_PLAIN)
    shown = f"the {len(cards)} largest, " if len(cards) < clusters else ""
    note = "of each its words, its size, its skills, and the samples nearest to its centroid"
    figure.text(0.1 / width, 1 - 0.1 / whole, f"{clusters} clusters", fontsize=11.5, color=INK, va="top")
    figure.text(0.1 / width, 1 - 0.36 / whole, shown + note, fontsize=8.5, color=SOFT, va="top")
    return figure


def project(gradients: Float[np.ndarray, "n dim"], seed: int) -> Float[np.ndarray, "n 2"]:
    """The first two principal components of at most 4096 rows drawn by `seed`, with every row projected."""
    n, dim = gradients.shape
    flat = np.zeros((n, 2), dtype=np.float32)
    if n < 2:
        return flat
    rows = np.sort(np.random.default_rng([seed]).permutation(n)[:_FITTED_ON])
    sample = np.asarray(gradients[rows], dtype=np.float32)
    solver = PCA(min(2, len(rows), dim), svd_solver="randomized", random_state=seed).fit(sample)
    for start in range(0, n, _FITTED_ON):
        block = np.asarray(gradients[start : start + _FITTED_ON], dtype=np.float32)
        flat[start : start + len(block), : solver.n_components_] = solver.transform(block)
    return flat


_CJK = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
        "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Arial Unicode MS")  # fmt: skip
_FONTS = ["DejaVu Sans", *[name for name in _CJK if name in font_manager.get_font_names()]]
_PLAIN: dict[str, Any] = {"va": "top", "parse_math": False, "linespacing": 1.15, "family": _FONTS}


def _given_k(chosen: pd.Series) -> Figure:
    figure = Figure(figsize=(6.4, 0.72), layout="constrained", facecolor=PAPER)
    apart = "undefined" if pd.isna(chosen["silhouette"]) else f"{chosen['silhouette']:.2f}"
    found = f"{chosen['clusters']} clusters of {chosen['rows']:,} rows, silhouette {apart}"
    _title(figure, f"k = {chosen['k']} was given, not sought", f"{found}; pseudo_skills.k: auto tries others")
    return figure


def _card(strip: Axes, card: Mapping[Hashable, Any], height: float) -> None:
    """A cluster in words, and its skills as a bar of their shares."""
    strip.text(0.1, height - 0.13, str(card["cluster"]), fontsize=9.5, color=PALETTE[0], weight="bold", va="top")
    strip.text(0.42, height - 0.13, _wrapped(card["label"], 36, 2), fontsize=9, color=INK, weight="bold", **_PLAIN)
    before = f" · goes on from {card['follows']}" if card["follows"] >= 0 else ""
    size = f"{card['size']:,} samples · cohesion {card['cohesion']:.2f}{before}"
    strip.text(0.42, 0.56, size, fontsize=7.5, color=SOFT, va="top")
    x, length = 0.42, 2.5
    for place, part in enumerate(list(card["skill_shares"])):
        share = length * part["share"]
        shade = _SHADES[max(0, 3 - place)] if place < 3 else FAINT
        strip.add_patch(Rectangle((x, 0.31), share, 0.07, facecolor=shade, edgecolor=PAPER, linewidth=0.5))
        x += share
    strip.text(0.42, 0.26, _cut(card["top_skills"], 50), fontsize=7.5, color=INK, **_PLAIN)


def _place(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes without a frame, in inches from the lower left."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((x / across, y / up, width / across, height / up))
    axes.set_axis_off()
    return axes


def _wrapped(text: str, letters: int, lines: int) -> str:
    """At most so many lines of so many letters; wide letters count twice."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    letters = int(letters * len(text) / (len(text) + wide)) if text else letters
    return "\n".join(textwrap.wrap(text, max(1, letters), max_lines=lines, placeholder=" …"))


def _thinned(ks: Sequence[int]) -> list[int]:
    """Those of the rising numbers that stand apart on a logarithmic axis."""
    kept = ks[:1]
    for k in ks[1:]:
        if k >= kept[-1] * max(1.25, (ks[-1] / ks[0]) ** (1 / 14)):
            kept = [*kept, k]
    return list(kept)


def _apart(points: pd.DataFrame) -> list[tuple[int, tuple[float, float]]]:
    """Clusters and their medians, largest first, without those whose number would cover a larger one's."""
    medians = points.groupby("cluster")[["x", "y"]].median()
    spread = np.maximum(np.ptp(points[["x", "y"]].to_numpy(), axis=0), 1e-12) * (0.045, 0.05)
    placed: list[tuple[int, tuple[float, float]]] = []
    for cluster in points["cluster"].value_counts().index:
        x, y = float(medians.loc[cluster, "x"]), float(medians.loc[cluster, "y"])
        if all(abs(x - u) > spread[0] or abs(y - v) > spread[1] for _, (u, v) in placed):
            placed.append((int(cluster), (x, y)))
    return placed


def _datasets(score_matrix: pd.DataFrame, own: Mapping[str, int]) -> list[str]:
    """In the order of arrival, as far as the skills' own rounds tell; what no arrival trains comes last."""
    skills = score_matrix.groupby("dataset", sort=False)["skill"].unique()
    first = {str(d): max((own.get(str(s), 10**6) for s in names), default=0) for d, names in skills.items()}
    return sorted(first, key=lambda d: first[d])


def _style(index: int) -> tuple[str, str]:
    return PALETTE[index % len(PALETTE)], MARKERS[index // len(PALETTE) % len(MARKERS)]


def _label_ends(axes: Axes, last: int, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right of their lines, in the lines' order, moved apart where they would overlap."""
    step = 0.085
    ordered = sorted(ends)
    rank = step * np.arange(len(ordered))
    free = np.array([y for y, _, _ in ordered]) - rank
    raised, lowered = np.maximum.accumulate(free), np.minimum.accumulate(free[::-1])[::-1]
    centred = (raised + lowered) / 2  # both keep the names apart, so their mean does
    at = np.clip(centred, min(0, 1.02 - rank[-1]), 1.02 - rank[-1]) + rank
    for y, (score, name, colour) in zip(at, ordered, strict=True):
        axes.annotate(
            f"{_cut(name, 24)}  {score:.2f}", (last, score), (last + 0.03 * max(last, 1) + 0.12, y),
            fontsize=7.5, color=colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _shares(subset: pd.DataFrame, column: str) -> pd.DataFrame:
    """Share of the pool and of the chosen, per value of `column`, largest in the pool first."""
    counts = subset.groupby(column)["selected"].agg(["size", "sum"])
    shares = pd.DataFrame(
        {"pool": counts["size"] / len(subset), "chosen": counts["sum"] / max(1, subset["selected"].sum())}
    )
    return shares.sort_values("pool", ascending=False, kind="stable")


def _heat_map_title(scores: Float[np.ndarray, "rounds columns"], rounds: Sequence[int]) -> str:
    """Where the last round stands, and how many skills have been better."""
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
        return "No skill stands below its best since it was trained"
    return f"{worst} has been forgotten most: {drop:.2f} below its best since it was trained"


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


def _title(figure: Figure, title: str, note: str) -> None:
    """What one sees, at the left; how to read it, under it."""
    width, height = figure.get_size_inches()
    lines, under = textwrap.wrap(title, int(width / 0.092)), textwrap.wrap(note, int(width / 0.07))
    below = 0.1 + 0.205 * len(lines)  # inches from the top
    style = {"x": 0.1 / width, "va": "top", "in_layout": False}
    figure.text(y=1 - 0.1 / height, s="\n".join(lines), fontsize=11.5, color=INK, **style)
    figure.text(y=1 - below / height, s="\n".join(under), fontsize=8.5, color=SOFT, **style)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, 1 - (below + 0.16 * len(under) + 0.1) / height))


def _tidy(axes: Axes, spines: Sequence[str]) -> None:
    for side, spine in axes.spines.items():
        spine.set_visible(side in spines)
        spine.set_color(SOFT)
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.set_axisbelow(True)


def _of_height(picture: np.ndarray, height: int) -> np.ndarray:
    """The picture brought to a height by leaving pixels out, with a white margin at its right."""
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(max(1, picture.shape[1] * height // picture.shape[0])) * picture.shape[0] // height
    small = picture[rows][:, np.minimum(columns, picture.shape[1] - 1)]
    return np.concatenate([small, np.full((height, max(1, height // 16), 3), 255, np.uint8)], axis=1)

"""The composition of the selected subset, and a map of the pool in two dimensions."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.decomposition import PCA

from adapt_infinity.data.tables import require_columns
from adapt_infinity.reporting.figures.style import FAINT, INK, PALETTE, PAPER, SOFT, cut, put_title, tidy

_FITTED_ROWS = 4096  # rows on which a projection is fitted


def subset_composition(subset: pd.DataFrame) -> Figure:
    """Shares of the selected samples (dots) and of the pool (rings), by source and by cluster.

    `subset` has one row per sample of the pool, with the columns selected, source and cluster.
    """
    require_columns(subset, "subset", ["selected", "source", "cluster"])
    sources = _shares(subset, "source")
    clusters = _shares(subset, "cluster")
    height = max(3.6, 0.3 * len(sources) + 1.9)
    figure = Figure(figsize=(11, height), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.5])

    rows = np.arange(len(sources))
    left.hlines(rows, sources["pool"], sources["chosen"], color=FAINT, linewidth=3)
    left.scatter(sources["pool"], rows, s=42, facecolor=PAPER, edgecolor=SOFT, linewidth=1.4, zorder=3)
    left.scatter(sources["chosen"], rows, s=42, color=PALETTE[0], zorder=4)
    left.set_yticks(rows, [cut(str(name), 26) for name in sources.index])
    left.set_ylim(len(sources) - 0.5, -0.5)
    left.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.set_xlim(left=0)
    left.grid(axis="x", color=FAINT, linewidth=0.7)
    left.set_title("by source", loc="left", fontsize=9.5, color=INK)
    tidy(left, spines=())

    columns = np.arange(len(clusters))
    right.vlines(columns, clusters["pool"], clusters["chosen"], color=FAINT, linewidth=min(3, 120 / len(columns)))
    dot = 42 if len(columns) <= 40 else 14
    ring = {"facecolor": PAPER, "edgecolor": SOFT, "linewidth": 1.2, "zorder": 3}
    right.scatter(columns, clusters["pool"], s=dot, label="in the pool", **ring)
    right.scatter(columns, clusters["chosen"], s=dot, color=PALETTE[0], zorder=4, label="in the subset")
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
    tidy(right, spines=())
    chosen = int(subset["selected"].sum())
    gain = (sources["chosen"] - sources["pool"]).sort_values()
    note = f"{gain.index[-1]} gains most ({100 * gain.iloc[-1]:+.0f} points of share)" if len(gain) > 1 else ""
    put_title(figure, f"{chosen:,} of {len(subset):,} samples selected", note)
    return figure


def cluster_map(points: pd.DataFrame) -> Figure:
    """The pool in two dimensions, coloured by skill and by source.

    `points` has one row per sample, with the columns x, y, cluster, skill, source and selected. Selected samples are
    full dots, the others are pale; the number of a cluster is at its median.
    """
    require_columns(points, "points", ["x", "y", "cluster", "skill", "source", "selected"])
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
        for mask, style in ((~chosen, pale), (chosen, full)):
            axes.scatter(x[mask], y[mask], c=colour[mask], linewidth=0, rasterized=True, **style)
        for name in named:
            axes.scatter([], [], s=26, color=colours[name], label=cut(name, 22))
        if len(groups) > len(named):
            rest = len(groups) - len(named)
            axes.scatter([], [], s=26, color=SOFT, label=f"{rest} other{'s' if rest > 1 else ''}")
        axes.legend(
            frameon=False, fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(-0.02, -0.01),
            handletextpad=0.1, columnspacing=0.8, labelcolor=INK,
        )  # fmt: skip
        for cluster, (left, up) in _label_positions(points):
            axes.text(
                left, up, str(cluster), ha="center", va="center", fontsize=7.5, weight="bold",
                color=INK, path_effects=[withStroke(linewidth=2.2, foreground=PAPER)],
            )  # fmt: skip
        axes.set_title(f"by {column}", loc="left", fontsize=9.5, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        tidy(axes, spines=())
    clusters = points["cluster"].nunique()
    note = "full: selected, pale: not selected; numbers are at the medians of clusters, where there is room"
    put_title(figure, f"{len(points):,} samples in {clusters} clusters", note)
    return figure


def project(gradients: Float[np.ndarray, "n dim"], seed: int) -> Float[np.ndarray, "n 2"]:
    """All rows projected on two principal components, which are fitted on at most 4096 rows drawn by `seed`."""
    n, dim = gradients.shape
    flat = np.zeros((n, 2), dtype=np.float32)
    if n < 2:
        return flat
    rows = np.sort(np.random.default_rng([seed]).permutation(n)[:_FITTED_ROWS])
    sample = np.asarray(gradients[rows], dtype=np.float32)
    solver = PCA(min(2, len(rows), dim), svd_solver="randomized", random_state=seed).fit(sample)
    for start in range(0, n, _FITTED_ROWS):
        block = np.asarray(gradients[start : start + _FITTED_ROWS], dtype=np.float32)
        flat[start : start + len(block), : solver.n_components_] = solver.transform(block)
    return flat


def _label_positions(points: pd.DataFrame) -> list[tuple[int, tuple[float, float]]]:
    """Clusters and their medians, largest first, without those whose label would overlap that of a larger cluster."""
    medians = points.groupby("cluster")[["x", "y"]].median()
    spread = np.maximum(np.ptp(points[["x", "y"]].to_numpy(), axis=0), 1e-12) * (0.045, 0.05)
    placed: list[tuple[int, tuple[float, float]]] = []
    for cluster in points["cluster"].value_counts().index:
        x, y = float(medians.loc[cluster, "x"]), float(medians.loc[cluster, "y"])
        if all(abs(x - u) > spread[0] or abs(y - v) > spread[1] for _, (u, v) in placed):
            placed.append((int(cluster), (x, y)))
    return placed


def _shares(subset: pd.DataFrame, column: str) -> pd.DataFrame:
    """Shares of the pool and of the selected samples per value of `column`, sorted by the share of the pool."""
    counts = subset.groupby(column)["selected"].agg(["size", "sum"])
    shares = pd.DataFrame(
        {"pool": counts["size"] / len(subset), "chosen": counts["sum"] / max(1, subset["selected"].sum())}
    )
    return shares.sort_values("pool", ascending=False, kind="stable")

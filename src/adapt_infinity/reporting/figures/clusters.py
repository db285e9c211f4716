"""Pseudo-skills: measures over the number of clusters k, and a sheet with the largest clusters."""

import textwrap
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from adapt_infinity.data.tables import require_columns
from adapt_infinity.reporting.figures.style import FAINT, INK, PALETTE, PAPER, PLAIN, SHADES, SOFT, cut, put_title, tidy

CLUSTERS, THUMBNAILS, THUMBNAIL = 24, 4, 160  # on a sheet: rows, pictures per row, pixels per side of a picture


def k_sweep_figure(k_sweep: pd.DataFrame) -> Figure:
    """Silhouette, stability and within-cluster sum over k, with the chosen k marked; a line of text if k was given."""
    require_columns(k_sweep, "k_sweep", ["k", "clusters", "rows", "silhouette", "stability", "within", "chosen"])
    chosen = k_sweep[k_sweep["chosen"]].iloc[0]
    if len(k_sweep) == 1 and pd.isna(chosen["stability"]):
        return _given_k(chosen)
    figure = Figure(figsize=(11, 3.5), layout="constrained", facecolor=PAPER)
    panels = {"silhouette": "higher is better", "stability": "1: halves agree", "within": "sum of squares"}
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
        axes.set_xticks(_thin_ticks(k_sweep["k"].tolist()))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.06, y=0.14)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        tidy(axes, spines=("bottom",))
    figure.supxlabel("k", fontsize=9, color=SOFT)
    note = f"tried on {chosen['rows']:,} rows; the stable candidate with the highest silhouette is chosen"
    put_title(figure, f"k = {chosen['k']}, chosen from {len(k_sweep)} candidates", note)
    return figure


def cluster_sheet(cards: pd.DataFrame, samples: Mapping[int, tuple[str, np.ndarray | None]], clusters: int) -> Figure:
    """One row per cluster: its label, size and skills, and the samples nearest to its centroid.

    `samples` has the first question and the picture (rows, columns, 3), or None, of each of these samples. `clusters`
    is the total number of clusters; `cards` may have fewer.
    """
    columns = ["cluster", "size", "label", "cohesion", "follows", "skill_shares", "top_skills", "nearest"]
    require_columns(cards, "cluster_cards", columns)
    width, top, height = 12.0, 0.72, 1.12  # inches: width of the figure, heights of the title and of a row
    left, step = 3.15, 2.2  # inches: width of the text, width of a sample
    total = top + height * len(cards)
    figure = Figure(figsize=(width, total), facecolor=PAPER)
    for row, card in enumerate(cards.to_dict("records")):
        base = total - top - height * (row + 1)
        strip = _add_axes(figure, 0.0, base, width, height)
        strip.set(xlim=(0, width), ylim=(0, height))
        strip.axhline(height, color=FAINT, linewidth=0.8)
        _card(strip, card, height)
        for number, sample in enumerate(list(card["nearest"])[:THUMBNAILS]):
            question, picture = samples[int(sample)]
            x = left + step * number
            if picture is not None:
                axes = _add_axes(figure, x, base + 0.12, 0.86, height - 0.24)
                axes.imshow(picture, interpolation="nearest" if max(picture.shape) < 100 else "antialiased")
                axes.set_anchor("NW")
            start, letters = (x + 0.94, 19) if picture is not None else (x, 33)
            strip.text(start, height - 0.13, _wrapped(question, letters, 6), fontsize=7, color=INK, **PLAIN)
    shown = f"the {len(cards)} largest, " if len(cards) < clusters else ""
    note = "each with its words, size, skills, and the samples nearest to its centroid"
    figure.text(0.1 / width, 1 - 0.1 / total, f"{clusters} clusters", fontsize=11.5, color=INK, va="top")
    figure.text(0.1 / width, 1 - 0.36 / total, shown + note, fontsize=8.5, color=SOFT, va="top")
    return figure


def _given_k(chosen: pd.Series) -> Figure:
    figure = Figure(figsize=(6.4, 0.72), layout="constrained", facecolor=PAPER)
    silhouette = "undefined" if pd.isna(chosen["silhouette"]) else f"{chosen['silhouette']:.2f}"
    result = f"{chosen['clusters']} clusters of {chosen['rows']:,} rows, silhouette {silhouette}"
    put_title(figure, f"k = {chosen['k']} was given", f"{result}; with pseudo_skills.k: auto several k are tried")
    return figure


def _card(strip: Axes, card: Mapping[Hashable, Any], height: float) -> None:
    """Draw the text of a cluster, and a bar with the shares of its skills."""
    strip.text(0.1, height - 0.13, str(card["cluster"]), fontsize=9.5, color=PALETTE[0], weight="bold", va="top")
    strip.text(0.42, height - 0.13, _wrapped(card["label"], 36, 2), fontsize=9, color=INK, weight="bold", **PLAIN)
    before = f" · continues {card['follows']}" if card["follows"] >= 0 else ""
    size = f"{card['size']:,} samples · cohesion {card['cohesion']:.2f}{before}"
    strip.text(0.42, 0.56, size, fontsize=7.5, color=SOFT, va="top")
    x, length = 0.42, 2.5
    for rank, skill in enumerate(list(card["skill_shares"])):
        share = length * skill["share"]
        shade = SHADES[max(0, 3 - rank)] if rank < 3 else FAINT
        strip.add_patch(Rectangle((x, 0.31), share, 0.07, facecolor=shade, edgecolor=PAPER, linewidth=0.5))
        x += share
    strip.text(0.42, 0.26, cut(card["top_skills"], 50), fontsize=7.5, color=INK, **PLAIN)


def _add_axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Add axes without a frame; position and size in inches, from the lower left corner."""
    total_width, total_height = figure.get_size_inches()
    axes = figure.add_axes((x / total_width, y / total_height, width / total_width, height / total_height))
    axes.set_axis_off()
    return axes


def _wrapped(text: str, letters: int, lines: int) -> str:
    """The text wrapped to at most `lines` lines of `letters` letters; East Asian wide letters count twice."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    letters = int(letters * len(text) / (len(text) + wide)) if text else letters
    return "\n".join(textwrap.wrap(text, max(1, letters), max_lines=lines, placeholder=" …"))


def _thin_ticks(ks: Sequence[int]) -> list[int]:
    """The numbers of `ks`, which are rising, whose tick labels do not overlap on a logarithmic axis."""
    kept = ks[:1]
    for k in ks[1:]:
        if k >= kept[-1] * max(1.25, (ks[-1] / ks[0]) ** (1 / 14)):
            kept = [*kept, k]
    return list(kept)

"""The similarity of a stream's tasks, and the change of scores in the round of each task."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from adapt_infinity.data.tables import require_columns
from adapt_infinity.model.modality_embeddings import MODALITIES
from adapt_infinity.reporting.figures.style import INK, PALETTE, PAPER, SHADES, cut, put_title, tidy

_SIMILARITY_COLOURS = LinearSegmentedColormap.from_list("similarity", SHADES)
_CHANGE_COLOURS = LinearSegmentedColormap.from_list("change", [PALETTE[1], PAPER, PALETTE[0]])


def task_similarity_map(task_similarity: pd.DataFrame, score_matrix: pd.DataFrame) -> Figure:
    """Cosines between tasks by image, instruction and answer, and the change of each dataset's score in each round."""
    require_columns(task_similarity, "task_similarity", ["round", "dataset", "other", "part", "cosine"])
    require_columns(score_matrix, "score_matrix", ["round", "dataset", "items", "score"])
    names = list(dict.fromkeys(task_similarity.sort_values("round")["dataset"]))
    side = 0.62 * len(names) + 1.2
    figure = Figure(figsize=(4 * side + 0.8, side + 1.3), layout="constrained")
    panels = figure.subplots(1, 4)
    for axes, part in zip(panels, MODALITIES, strict=False):
        pairs = task_similarity[task_similarity["part"] == part]
        cosines = pairs.pivot_table(index="dataset", columns="other", values="cosine").reindex(names, columns=names)
        _cells(axes, cosines.to_numpy(float), names, part, _SIMILARITY_COLOURS, (0.0, 1.0))
    change = changes(score_matrix, names)
    _cells(panels[3], change, names, "change of score", _CHANGE_COLOURS, (-1.0, 1.0), below="in its round")
    note = (
        "Cosines of the tasks' mean embeddings before the language model's first layer. Right: score on the column's "
        "dataset after the row's round minus the score before it."
    )
    put_title(figure, "Similarity of tasks, and change of scores in each round", note)
    return figure


def changes(score_matrix: pd.DataFrame, names: list[str]) -> Float[np.ndarray, "rounds datasets"]:
    """R[t, j] − R[t − 1, j]: one row per dataset (t is its round), one column per dataset j; means over items."""
    weighted = score_matrix.assign(sum=score_matrix["score"] * score_matrix["items"])
    sums = weighted.groupby(["round", "dataset"])[["sum", "items"]].sum()
    means = (sums["sum"] / sums["items"]).unstack("dataset").reindex(columns=names)
    rounds = range(1, len(names) + 1)
    return np.array([(means.loc[t] - means.loc[t - 1]).to_numpy() if t in means.index else np.nan for t in rounds])


def _cells(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    names: list[str],
    title: str,
    colours: LinearSegmentedColormap,
    span: tuple[float, float],
    below: str = "",
) -> None:
    axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=span[0], vmax=span[1], aspect="equal")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(value) > 0.6 * span[1]
            style = "+.2f" if span[0] < 0 else ".2f"
            axes.text(j, i, f"{value:{style}}", ha="center", va="center", fontsize=7, color=PAPER if dark else INK)
    labels = [cut(name, 14) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=50, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.set_title(title, fontsize=9, color=INK)
    if below:
        axes.set_ylabel(below, fontsize=8, color=INK)
    tidy(axes, spines=())

"""Figures of a round: their texts, no overlapping labels, and no side effects."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from adapt_infinity.reporting.figures import (
    CLUSTERS,
    cluster_map,
    cluster_sheet,
    forgetting_curves,
    k_sweep_figure,
    project,
    score_heat_map,
    subset_composition,
)


def stream(datasets: int, skills: int, rounds: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """A score matrix in which skills rise in the round that trains them and fall later; `base` is never trained."""
    rows = []
    for t in range(rounds + 1):
        for d in range(1, datasets + 1):
            for s in range(skills):
                score = 0.2 if t < d else 0.9 - 0.05 * (t - d) - 0.02 * s
                rows.append((t, f"data set {d}", f"a long name of skill {d}-{s}", "exact", 10, score))
        rows.append((t, "base", "primitive", "exact", 10, 0.9))
    own = {f"a long name of skill {d}-{s}": d for d in range(1, datasets + 1) for s in range(skills)}
    return pd.DataFrame(rows, columns=["round", "dataset", "skill", "grader", "items", "score"]), own


def pool(n: int, clusters: int) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    cluster = draw.integers(clusters, size=n)
    table = pd.DataFrame({"sample_id": np.arange(n), "cluster": cluster, "x": draw.normal(size=n) + 5 * cluster})
    table["y"] = draw.normal(size=n)
    table["skill"] = [f"skill {c % 30}" for c in cluster]
    return table.assign(source=[f"source {c % 4}" for c in cluster], selected=np.arange(n) % 3 == 0)


def texts(figure: Figure) -> list[str]:
    """All texts of a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlapping(axes: Axes, texts: Iterable[Text]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap by more than a pixel; arrows do not count."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    boxes = [(t.get_text(), Text.get_window_extent(t).padded(-1)) for t in texts if t.get_text() and t.get_visible()]
    return [(a, b) for (a, p), (b, q) in itertools.combinations(boxes, 2) if p.overlaps(q)]


def test_heat_map_has_scores_names_and_a_title() -> None:
    scores, own = stream(3, 2, 3)
    figure = score_heat_map(scores, own)
    words = texts(figure)
    assert words.count(".88") == 3
    assert {"zero-shot", "round 3", "data set 2", "a long name of skill 1-0"} <= set(words)
    assert any("After round 3: mean score 0.85; 4 of 7 benchmarks" in w.replace("\n", " ") for w in words)


def test_heat_map_shows_missing_scores() -> None:
    scores, own = stream(2, 1, 2)
    assert "n/a" in texts(score_heat_map(scores.drop(index=0), own))


@pytest.mark.slow
def test_labels_of_thirty_skills_do_not_overlap() -> None:
    scores, own = stream(6, 5, 6)
    heat = score_heat_map(scores, own).axes[0]
    assert overlapping(heat, heat.texts) == []
    for axes in forgetting_curves(scores, own).axes:
        assert overlapping(axes, [*axes.texts, *axes.get_xticklabels()]) == []


def test_labels_of_equal_scores_do_not_overlap() -> None:
    scores, own = stream(1, 8, 2)
    scores["score"] = 0.0
    axes = forgetting_curves(scores, own).axes[0]
    assert len(axes.texts) == 8
    assert overlapping(axes, axes.texts) == []


def test_curves_distinguish_trained_and_untrained_skills() -> None:
    scores, own = stream(2, 1, 3)
    figure = forgetting_curves(scores, own)
    words = texts(figure)
    assert "data set 2 (from round 2)" in words
    assert "base (never trained)" in words
    assert "primitive *  0.90" in words
    assert any(word.startswith("a long name of skill 1-0 was forgotten most: 0.10") for word in words)
    before, since = figure.axes[1].lines
    assert list(before.get_xdata()) == [0, 1, 2]  # type: ignore[arg-type]
    assert list(since.get_xdata()) == [2, 3]  # type: ignore[arg-type]


@pytest.mark.parametrize(("datasets", "skills", "rounds"), [(1, 1, 0), (1, 1, 1), (3, 2, 1)])
def test_streams_of_few_rounds_and_datasets_can_be_drawn(datasets: int, skills: int, rounds: int) -> None:
    scores, own = stream(datasets, skills, rounds)
    for figure in (score_heat_map(scores, own), forgetting_curves(scores, own)):
        figure.draw_without_rendering()


@pytest.mark.parametrize("clusters", [1, 8, 200])
def test_composition_compares_shares(clusters: int) -> None:
    table = pool(300, clusters)
    figure = subset_composition(table)
    assert "100 of 300 samples selected" in texts(figure)
    drawn = figure.axes[1].collections[-1].get_offsets()
    assert np.asarray(drawn)[:, 1].sum() == pytest.approx(1)
    for axes in figure.axes:
        assert overlapping(axes, axes.get_xticklabels()) == []


def test_composition_of_an_empty_subset_can_be_drawn() -> None:
    subset_composition(pool(30, 3).assign(selected=False)).draw_without_rendering()


@pytest.mark.parametrize("clusters", [1, 60])
def test_cluster_map_labels_clusters_and_counts_other_groups(clusters: int) -> None:
    figure = cluster_map(pool(600, clusters))
    axes = figure.axes[0]
    assert overlapping(axes, axes.texts) == []
    assert f"600 samples in {clusters} clusters" in texts(figure)
    assert ("22 others" in texts(figure)) == (clusters == 60)


def sweep(ks: list[int], chosen: int, given: bool = False) -> pd.DataFrame:
    """The table of a sweep over k; if k was given, without stability."""
    table = pd.DataFrame({"k": ks, "clusters": ks, "rows": 900, "within": [900.0 / k for k in ks]})
    table["silhouette"] = pd.array([0.5 - abs(k - chosen) / 100 for k in ks], dtype="Float64")
    table["stability"] = pd.array([pd.NA if given else 0.9 for _ in ks], dtype="Float64")
    return table.assign(chosen=table["k"] == chosen, note="")


def test_k_sweep_shows_the_chosen_k() -> None:
    figure = k_sweep_figure(sweep([4, 6, 8, 11, 16], 8))
    assert "k = 8, chosen from 5 candidates" in texts(figure)
    assert {axes.get_title("left").split(" (")[0] for axes in figure.axes} == {
        "silhouette 0.50",
        "stability 0.90",
        "within 112",
    }


def test_k_sweep_of_a_given_k_is_one_line() -> None:
    figure = k_sweep_figure(sweep([24], 24, given=True))
    assert figure.axes == []
    assert "k = 24 was given" in texts(figure)
    assert any("900 rows, silhouette 0.50" in line for line in texts(figure))
    one = sweep([1], 1, given=True).assign(silhouette=pd.array([pd.NA], dtype="Float64"))
    assert any("silhouette undefined" in line for line in texts(k_sweep_figure(one)))


@pytest.mark.parametrize("clusters", [1, CLUSTERS + 30])
def test_cluster_sheet_shows_the_largest_clusters(clusters: int) -> None:
    """Its size is limited; long texts, dollar signs and missing pictures are drawn without an error."""
    cards = pd.DataFrame({"cluster": range(clusters), "size": 10, "cohesion": 0.5, "label": "long words · $x$ " * 9})
    cards["top_skills"], cards["follows"] = "a skill with a very long name 90 %, another 10 %", 3
    shares: list[Any] = [[{"skill": "a", "share": 0.9}, {"skill": "b", "share": 0.1}]] * clusters
    cards["skill_shares"] = shares
    cards["nearest"] = [[0, 1, 2, 3, 4]] * clusters
    samples = {n: ("what is this? " * 20, np.zeros((20, 40, 3), np.uint8) if n % 2 else None) for n in range(4)}
    shown = cards.head(CLUSTERS)
    figure = cluster_sheet(shown, samples, clusters)
    width, height = figure.get_size_inches()
    assert width <= 12
    assert height <= 1.2 * CLUSTERS + 1
    assert f"{clusters} clusters" in texts(figure)
    assert sum(line.startswith("10 samples") for line in texts(figure)) == len(shown)
    assert any(f"the {CLUSTERS} largest" in line for line in texts(figure)) == (clusters > CLUSTERS)
    assert any("continues 3" in line for line in texts(figure))
    figure.draw_without_rendering()


def test_projection_keeps_distances_in_a_plane() -> None:
    """Points on a plane in 20 dimensions keep their distances; the same seed gives the same projection."""
    draw = np.random.default_rng(0)
    plane = draw.normal(size=(5000, 2)) * (3, 1)
    basis, _ = np.linalg.qr(draw.normal(size=(20, 2)))
    gradients = (plane @ basis.T).astype(np.float32)
    flat = project(gradients, seed=1)
    assert np.array_equal(flat, project(gradients, seed=1))
    expected = np.linalg.norm(plane[:100] - plane[1:101], axis=1)
    assert np.linalg.norm(flat[:100] - flat[1:101], axis=1) == pytest.approx(expected, abs=1e-3)
    assert flat[:, 0].std() > flat[:, 1].std()


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (4, 3)])
def test_projection_of_few_rows_in_half_precision(shape: tuple[int, int]) -> None:
    flat = project(np.eye(*shape, dtype=np.float16), seed=0)
    assert flat.shape == (shape[0], 2)
    assert np.isfinite(flat).all()


def test_figures_do_not_change_global_state() -> None:
    import matplotlib as mpl
    from matplotlib import _pylab_helpers

    before = dict(mpl.rcParams)
    score_heat_map(*stream(2, 2, 2))
    assert dict(mpl.rcParams) == before
    assert _pylab_helpers.Gcf.figs == {}


def test_figures_do_not_change_their_tables() -> None:
    scores, own = stream(2, 2, 2)
    table = pool(60, 3)
    copies = scores.copy(), table.copy()
    score_heat_map(scores, own)
    forgetting_curves(scores, own)
    subset_composition(table)
    cluster_map(table)
    pd.testing.assert_frame_equal(scores, copies[0])
    pd.testing.assert_frame_equal(table, copies[1])


def test_missing_column_is_an_error_with_its_name() -> None:
    scores, own = stream(2, 2, 2)
    with pytest.raises(ValueError, match="score_matrix lacks columns: score"):
        score_heat_map(scores.drop(columns="score"), own)
    with pytest.raises(ValueError, match="subset lacks columns: selected"):
        subset_composition(pool(60, 3).drop(columns="selected"))
    with pytest.raises(ValueError, match="points lacks columns: x, y"):
        cluster_map(pool(60, 3).drop(columns=["x", "y"]))
    with pytest.raises(ValueError, match="k_sweep lacks columns: within"):
        k_sweep_figure(sweep([4, 6], 4).drop(columns="within"))

"""figures: what they say, that nothing overlaps, and that they leave nothing behind."""

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
    """Skills jump in their own round and fade later; dataset `base` is never trained."""
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


def said(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def overlapping(axes: Axes, texts: Iterable[Text]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes, less a pixel and their arrows, meet."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    boxes = [(t.get_text(), Text.get_window_extent(t).padded(-1)) for t in texts if t.get_text() and t.get_visible()]
    return [(a, b) for (a, p), (b, q) in itertools.combinations(boxes, 2) if p.overlaps(q)]


def test_the_heat_map_says_every_score_and_what_happened() -> None:
    scores, own = stream(3, 2, 3)
    figure = score_heat_map(scores, own)
    words = said(figure)
    assert words.count(".88") == 3
    assert {"zero-shot", "round 3", "data set 2", "a long name of skill 1-0"} <= set(words)
    assert any("After round 3: mean score 0.85; 4 of 7 benchmarks" in w.replace("\n", " ") for w in words)


def test_the_heat_map_shows_what_was_not_graded() -> None:
    scores, own = stream(2, 1, 2)
    assert "n/a" in said(score_heat_map(scores.drop(index=0), own))


def test_thirty_skills_fit() -> None:
    scores, own = stream(6, 5, 6)
    heat = score_heat_map(scores, own).axes[0]
    assert overlapping(heat, heat.texts) == []
    for axes in forgetting_curves(scores, own).axes:
        assert overlapping(axes, [*axes.texts, *axes.get_xticklabels()]) == []


def test_skills_that_end_alike_are_named_apart() -> None:
    scores, own = stream(1, 8, 2)
    scores["score"] = 0.0
    axes = forgetting_curves(scores, own).axes[0]
    assert len(axes.texts) == 8
    assert overlapping(axes, axes.texts) == []


def test_curves_tell_trained_from_untrained() -> None:
    scores, own = stream(2, 1, 3)
    figure = forgetting_curves(scores, own)
    words = said(figure)
    assert "data set 2 (from round 2)" in words
    assert "base (never trained)" in words
    assert "primitive *  0.90" in words
    assert any(word.startswith("a long name of skill 1-0 has been forgotten most: 0.10") for word in words)
    before, since = figure.axes[1].lines
    assert list(before.get_xdata()) == [0, 1, 2]  # type: ignore[arg-type]
    assert list(since.get_xdata()) == [2, 3]  # type: ignore[arg-type]


@pytest.mark.parametrize(("datasets", "skills", "rounds"), [(1, 1, 0), (1, 1, 1), (3, 2, 1)])
def test_a_stream_that_has_hardly_begun(datasets: int, skills: int, rounds: int) -> None:
    scores, own = stream(datasets, skills, rounds)
    for figure in (score_heat_map(scores, own), forgetting_curves(scores, own)):
        figure.draw_without_rendering()


@pytest.mark.parametrize("clusters", [1, 8, 200])
def test_composition_compares_shares(clusters: int) -> None:
    table = pool(300, clusters)
    figure = subset_composition(table)
    assert "100 of 300 samples chosen" in said(figure)
    drawn = figure.axes[1].collections[-1].get_offsets()
    assert np.asarray(drawn)[:, 1].sum() == pytest.approx(1)
    for axes in figure.axes:
        assert overlapping(axes, axes.get_xticklabels()) == []


def test_composition_when_nothing_was_chosen() -> None:
    subset_composition(pool(30, 3).assign(selected=False)).draw_without_rendering()


@pytest.mark.parametrize("clusters", [1, 60])
def test_the_map_names_clusters_and_counts_the_rest(clusters: int) -> None:
    figure = cluster_map(pool(600, clusters))
    axes = figure.axes[0]
    assert overlapping(axes, axes.texts) == []
    assert f"600 samples in {clusters} clusters" in said(figure)
    assert ("22 others" in said(figure)) == (clusters == 60)


def swept(ks: list[int], chosen: int, sought: bool = True) -> pd.DataFrame:
    table = pd.DataFrame({"k": ks, "clusters": ks, "rows": 900, "within": [900.0 / k for k in ks]})
    table["silhouette"] = pd.array([0.5 - abs(k - chosen) / 100 for k in ks], dtype="Float64")
    table["stability"] = pd.array([0.9 if sought else pd.NA for _ in ks], dtype="Float64")
    return table.assign(chosen=table["k"] == chosen, note="")


def test_the_sweep_marks_the_chosen_k() -> None:
    figure = k_sweep_figure(swept([4, 6, 8, 11, 16], 8))
    assert "8 clusters are chosen of 5 candidates" in said(figure)
    assert {axes.get_title("left").split(" (")[0] for axes in figure.axes} == {
        "silhouette 0.50",
        "stability 0.90",
        "within 112",
    }


def test_a_given_k_is_said_to_be_given() -> None:
    figure = k_sweep_figure(swept([24], 24, sought=False))
    assert figure.axes == []
    assert "k = 24 was given, not sought" in said(figure)
    assert any("900 rows, silhouette 0.50" in line for line in said(figure))
    one = swept([1], 1, sought=False).assign(silhouette=pd.array([pd.NA], dtype="Float64"))
    assert any("silhouette undefined" in line for line in said(k_sweep_figure(one)))


@pytest.mark.parametrize("clusters", [1, CLUSTERS + 30])
def test_the_sheet_shows_the_largest_clusters(clusters: int) -> None:
    """Bounded in rows and pixels; long words, other scripts and dollars do no harm, nor does a missing picture."""
    cards = pd.DataFrame({"cluster": range(clusters), "size": 10, "cohesion": 0.5, "label": "long words · $x$ " * 9})
    cards["top_skills"], cards["follows"] = "a skill with a very long name 90 %, another 10 %", 3
    shares: list[Any] = [[{"skill": "a", "share": 0.9}, {"skill": "b", "share": 0.1}]] * clusters
    cards["skill_shares"] = shares
    cards["nearest"] = [[0, 1, 2, 3, 4]] * clusters
    told = {n: ("what is this? " * 20, np.zeros((20, 40, 3), np.uint8) if n % 2 else None) for n in range(4)}
    shown = cards.head(CLUSTERS)
    figure = cluster_sheet(shown, told, clusters)
    width, height = figure.get_size_inches()
    assert width <= 12
    assert height <= 1.2 * CLUSTERS + 1
    assert f"{clusters} clusters" in said(figure)
    assert sum(line.startswith("10 samples") for line in said(figure)) == len(shown)
    assert any(f"the {CLUSTERS} largest" in line for line in said(figure)) == (clusters > CLUSTERS)
    assert any("goes on from 3" in line for line in said(figure))
    figure.draw_without_rendering()


def test_two_clear_directions_are_found() -> None:
    """Points on a tilted plane in 20 dimensions keep their distances; the seed fixes the rest."""
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
def test_few_rows_and_halves(shape: tuple[int, int]) -> None:
    flat = project(np.eye(*shape, dtype=np.float16), seed=0)
    assert flat.shape == (shape[0], 2)
    assert np.isfinite(flat).all()


def test_no_global_state() -> None:
    import matplotlib as mpl
    from matplotlib import _pylab_helpers

    before = dict(mpl.rcParams)
    score_heat_map(*stream(2, 2, 2))
    assert dict(mpl.rcParams) == before
    assert _pylab_helpers.Gcf.figs == {}


def test_nothing_is_written_into_the_tables() -> None:
    scores, own = stream(2, 2, 2)
    table = pool(60, 3)
    copies = scores.copy(), table.copy()
    score_heat_map(scores, own)
    forgetting_curves(scores, own)
    subset_composition(table)
    cluster_map(table)
    pd.testing.assert_frame_equal(scores, copies[0])
    pd.testing.assert_frame_equal(table, copies[1])

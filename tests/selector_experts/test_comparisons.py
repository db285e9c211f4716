"""What compares a sample with its past, a reference, validation samples and its neighbours; and the table of scores."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.selector_experts import comparisons
from adapt_infinity.selector_experts.context import ScoringContext
from adapt_infinity.selector_experts.scoring import score_samples, start_record
from tests.selector_experts.test_choosing import params
from tests.subset.usual import Read

NOTHING = pd.DataFrame({"sample_id": np.zeros(0, np.int64), "nll": np.zeros(0)})
NO_TARGETS = pd.DataFrame({"skill": [], "samples": [], "direction": []})


def evidence(cluster: list[int], rows: np.ndarray | None = None, **known: Any) -> ScoringContext:
    n = len(cluster)
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, 6)) if rows is None else rows
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    scores = {"sample_id": np.arange(n), "nll": rng.random(n), "el2n": rng.random(n), "grand": rng.random(n)}
    usual = {
        "previous_nll": np.full(n, np.nan),
        "reference_nll": rng.random(n),
        "targets": np.eye(2, rows.shape[1], dtype=np.float32),
        "experts": ("el2n", "grand"),
        "neighbours": 2,
    }
    table = pd.DataFrame({**scores, **{key: known.pop(key) for key in list(known) if key in scores}})
    return ScoringContext(
        scores=table, cluster=np.array(cluster, dtype=np.int64), gradients=rows, embeddings=rows, **{**usual, **known}
    )


@pytest.mark.parametrize("name", comparisons.names())
def test_every_comparison_gives_a_finite_number_a_sample(name: str) -> None:
    found = comparisons.load(name)(evidence([0, 0, 0, 1, 1, 2]))
    assert found.shape == (6,)
    assert np.isfinite(found).all()
    assert comparisons.load(name)(evidence([])).shape == (0,)


def test_forgetting_is_the_rise_of_the_loss_and_0_for_what_is_new() -> None:
    known = evidence([0, 0, 0], nll=[3.0, 1.0, 2.0], previous_nll=np.array([1.0, 2.0, np.nan]))
    assert comparisons.load("forgetting")(known).tolist() == [2.0, -1.0, 0.0]


def test_learnability_is_what_the_reference_knows_better() -> None:
    known = evidence([0, 0], nll=[3.0, 1.0], reference_nll=np.array([1.0, 2.0]))
    assert comparisons.load("learnability")(known).tolist() == [2.0, -1.0]


def test_influence_is_the_mean_inner_product_with_the_skill_that_gains_most() -> None:
    """Against all pairs: two skills of three validation rows each."""
    rng = np.random.default_rng(1)
    rows, validation = rng.normal(size=(5, 4)), rng.normal(size=(2, 3, 4)).astype(np.float32)
    known = evidence([0] * 5, rows, targets=validation.mean(axis=1))
    unit = known.gradients.astype(np.float64)
    pairs = np.einsum("nd,svd->nsv", unit, validation)
    assert comparisons.load("influence")(known) == pytest.approx(pairs.mean(axis=2).max(axis=1), abs=1e-5)


def test_density_and_uniqueness_look_at_neighbours_in_the_cluster() -> None:
    """Rows at 0, 0 and 60 degrees; one at 60 is alone in its cluster: its twin elsewhere does not count."""
    radians = np.deg2rad([0, 0, 60, 60])
    known = evidence([0, 0, 0, 1], np.stack([np.cos(radians), np.sin(radians)], axis=1))
    assert comparisons.load("density")(known) == pytest.approx([0.75, 0.75, 0.5, 0.0], abs=1e-3)
    assert comparisons.load("uniqueness")(known) == pytest.approx([0.0, 0.0, 0.5, 1.0], abs=1e-3)


def test_neighbours_are_those_of_a_full_table() -> None:
    known = evidence([row % 2 for row in range(40)], neighbours=3)
    unit = known.embeddings.astype(np.float32)
    for row in range(40):
        others = [other for other in range(row % 2, 40, 2) if other != row]
        best = np.sort(unit[others] @ unit[row] / np.linalg.norm(unit[others], axis=1) / np.linalg.norm(unit[row]))
        assert known.nearest[row] == pytest.approx(best[::-1][:3], abs=1e-5)


def test_rank_average_has_no_unit() -> None:
    """Ranks of el2n and grand in cluster 0: (0, 2), (1, 1), (2, 0); all average to the middle. Alone: 0."""
    known = evidence([0, 0, 0, 1], el2n=[1, 2, 30, 5], grand=[0.3, 0.2, 0.1, 9])
    assert comparisons.load("rank_average")(known).tolist() == [0.5, 0.5, 0.5, 0.0]
    known = evidence([0, 0, 0], el2n=[1, 2, 30], grand=[-7, 0, 0])
    assert comparisons.load("rank_average")(known).tolist() == pytest.approx([0.0, 0.625, 0.875])


def read(ids: list[int], nll: list[float]) -> tuple[Read, pd.DataFrame]:
    rows = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float16)
    scores = pd.DataFrame({"sample_id": ids, "nll": nll, "el2n": 0.5, "grand": 0.1})
    return Read(np.array(ids), rows, rows, scores), pd.DataFrame({"sample_id": ids, "cluster": 0})


def test_the_loss_after_training_is_remembered_until_the_next_training() -> None:
    """Sample 1 is trained on in round 1 and read in 2 (0.4) and 3; sample 2 never; sample 3 in round 2."""
    wanted = params(["el2n"])
    first, clusters = read([1, 2], [1.0, 1.1])
    scores = score_samples(first, clusters, *start_record(), NOTHING, NO_TARGETS, wanted)
    assert scores["trained_nll"].isna().all()
    subset = pd.DataFrame({"sample_id": [1, 2], "selected": [True, False]})
    second, clusters = read([1, 2, 3], [0.4, 0.9, 2.0])
    scores = score_samples(second, clusters, scores, subset, NOTHING, NO_TARGETS, wanted)
    assert scores["trained_nll"].tolist() == pytest.approx([0.4, np.nan, np.nan], nan_ok=True)
    subset = pd.DataFrame({"sample_id": [1, 2, 3], "selected": [False, False, True]})
    third, clusters = read([3, 1], [0.2, 0.7])
    scores = score_samples(third, clusters, scores, subset, NOTHING, NO_TARGETS, wanted)
    assert scores["sample_id"].tolist() == [1, 3]
    assert scores["trained_nll"].tolist() == pytest.approx([0.4, 0.2])


def test_comparisons_become_columns_when_they_are_named() -> None:
    made, clusters = read([1, 2, 3], [1.0, 2.0, 3.0])
    given = (made, clusters, *start_record(), NOTHING, NO_TARGETS)
    assert {"density", "forgetting"} <= set(score_samples(*given, params(["el2n", "density", "forgetting"])).columns)
    assert "density" not in score_samples(*given, params(["el2n"])).columns
    assert "rank_average" in score_samples(*given, params(["el2n", "grand"], choice="rank_average")).columns
    with pytest.raises(ValueError, match=r"selector_experts\.experts names \['charm'\].*uniqueness"):
        score_samples(*given, params(["charm"]))


def test_rows_that_are_listed_otherwise_are_the_same_rows() -> None:
    made, clusters = read([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])
    wanted = params(["el2n", "density", "uniqueness"])
    plain = score_samples(made, clusters, *start_record(), NOTHING, NO_TARGETS, wanted)
    order = [2, 0, 3, 1]
    moved = Read(made.sample_ids[order], made.gradients[order], made.embeddings[order], made.scores.iloc[order])
    again = score_samples(moved, clusters.iloc[order[::-1]], *start_record(), NOTHING, NO_TARGETS, wanted)
    pd.testing.assert_frame_equal(plain, again)

"""Comparisons with the past, a reference model, validation samples and neighbours; and the table of scores."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.selector_experts import comparisons
from adapt_infinity.selector_experts.context import ScoringContext
from adapt_infinity.selector_experts.scoring import score_samples, start_record
from tests.selector_experts.test_choosing import params
from tests.subset.defaults import StubFeatures

NO_REFERENCE = pd.DataFrame({"sample_id": np.zeros(0, np.int64), "nll": np.zeros(0)})
NO_TARGETS = pd.DataFrame({"skill": [], "samples": [], "direction": []})


def context_of(cluster: list[int], rows: np.ndarray | None = None, **given: Any) -> ScoringContext:
    n = len(cluster)
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, 6)) if rows is None else rows
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    scores = {"sample_id": np.arange(n), "nll": rng.random(n), "el2n": rng.random(n), "grand": rng.random(n)}
    defaults = {
        "previous_nll": np.full(n, np.nan),
        "reference_nll": rng.random(n),
        "targets": np.eye(2, rows.shape[1], dtype=np.float32),
        "experts": ("el2n", "grand"),
        "neighbours": 2,
    }
    table = pd.DataFrame({**scores, **{key: given.pop(key) for key in list(given) if key in scores}})
    return ScoringContext(
        scores=table,
        cluster=np.array(cluster, dtype=np.int64),
        gradients=rows,
        embeddings=rows,
        **{**defaults, **given},
    )


@pytest.mark.parametrize("name", comparisons.names())
def test_every_comparison_gives_a_finite_number_per_sample(name: str) -> None:
    scores = comparisons.load(name)(context_of([0, 0, 0, 1, 1, 2]))
    assert scores.shape == (6,)
    assert np.isfinite(scores).all()
    assert comparisons.load(name)(context_of([])).shape == (0,)


def test_forgetting_is_the_increase_of_the_loss_and_0_for_new_samples() -> None:
    context = context_of([0, 0, 0], nll=[3.0, 1.0, 2.0], previous_nll=np.array([1.0, 2.0, np.nan]))
    assert comparisons.load("forgetting")(context).tolist() == [2.0, -1.0, 0.0]


def test_learnability_is_the_loss_above_that_of_the_reference() -> None:
    context = context_of([0, 0], nll=[3.0, 1.0], reference_nll=np.array([1.0, 2.0]))
    assert comparisons.load("learnability")(context).tolist() == [2.0, -1.0]


def test_influence_is_the_largest_mean_inner_product_over_skills() -> None:
    """Compared with all pairs: two skills with three validation rows each."""
    rng = np.random.default_rng(1)
    rows, validation = rng.normal(size=(5, 4)), rng.normal(size=(2, 3, 4)).astype(np.float32)
    context = context_of([0] * 5, rows, targets=validation.mean(axis=1))
    unit = context.gradients.astype(np.float64)
    pairs = np.einsum("nd,svd->nsv", unit, validation)
    assert comparisons.load("influence")(context) == pytest.approx(pairs.mean(axis=2).max(axis=1), abs=1e-5)


def test_density_and_uniqueness_compare_within_the_cluster() -> None:
    """Rows at 0, 0 and 60 degrees, and one at 60 that is alone in its cluster, so its duplicate does not count."""
    radians = np.deg2rad([0, 0, 60, 60])
    context = context_of([0, 0, 0, 1], np.stack([np.cos(radians), np.sin(radians)], axis=1))
    assert comparisons.load("density")(context) == pytest.approx([0.75, 0.75, 0.5, 0.0], abs=1e-3)
    assert comparisons.load("uniqueness")(context) == pytest.approx([0.0, 0.0, 0.5, 1.0], abs=1e-3)


def test_nearest_neighbours_agree_with_all_pairs() -> None:
    context = context_of([row % 2 for row in range(40)], neighbours=3)
    unit = context.embeddings.astype(np.float32)
    for row in range(40):
        others = [other for other in range(row % 2, 40, 2) if other != row]
        best = np.sort(unit[others] @ unit[row] / np.linalg.norm(unit[others], axis=1) / np.linalg.norm(unit[row]))
        assert context.nearest[row] == pytest.approx(best[::-1][:3], abs=1e-5)


def test_rank_average_has_no_unit() -> None:
    """Ranks of el2n and grand in cluster 0 are (0, 2), (1, 1), (2, 0), with equal means; a cluster of one has 0."""
    context = context_of([0, 0, 0, 1], el2n=[1, 2, 30, 5], grand=[0.3, 0.2, 0.1, 9])
    assert comparisons.load("rank_average")(context).tolist() == [0.5, 0.5, 0.5, 0.0]
    context = context_of([0, 0, 0], el2n=[1, 2, 30], grand=[-7, 0, 0])
    assert comparisons.load("rank_average")(context).tolist() == pytest.approx([0.0, 0.625, 0.875])


def reading(ids: list[int], nll: list[float]) -> tuple[StubFeatures, pd.DataFrame]:
    rows = np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float16)
    scores = pd.DataFrame({"sample_id": ids, "nll": nll, "el2n": 0.5, "grand": 0.1})
    return StubFeatures(np.array(ids), rows, rows, scores), pd.DataFrame({"sample_id": ids, "cluster": 0})


def test_the_loss_after_training_is_kept_until_the_sample_is_trained_on_again() -> None:
    """Sample 1 is trained on in round 1 and read in rounds 2 (0.4) and 3; sample 2 never; sample 3 in round 2."""
    given_params = params(["el2n"])
    first, clusters = reading([1, 2], [1.0, 1.1])
    scores = score_samples(first, clusters, *start_record(), NO_REFERENCE, NO_TARGETS, given_params)
    assert scores["trained_nll"].isna().all()
    subset = pd.DataFrame({"sample_id": [1, 2], "selected": [True, False]})
    second, clusters = reading([1, 2, 3], [0.4, 0.9, 2.0])
    scores = score_samples(second, clusters, scores, subset, NO_REFERENCE, NO_TARGETS, given_params)
    assert scores["trained_nll"].tolist() == pytest.approx([0.4, np.nan, np.nan], nan_ok=True)
    subset = pd.DataFrame({"sample_id": [1, 2, 3], "selected": [False, False, True]})
    third, clusters = reading([3, 1], [0.2, 0.7])
    scores = score_samples(third, clusters, scores, subset, NO_REFERENCE, NO_TARGETS, given_params)
    assert scores["sample_id"].tolist() == [1, 3]
    assert scores["trained_nll"].tolist() == pytest.approx([0.4, 0.2])


def test_each_needed_reading_must_have_rows() -> None:
    assert comparisons.needing("targets", ["el2n", *comparisons.names()]) == ["influence"]
    assert comparisons.needing("reference_scores", ["el2n", *comparisons.names()]) == ["learnability"]
    features, clusters = reading([1, 2], [1.0, 2.0])
    given = (features, clusters, *start_record(), NO_REFERENCE, NO_TARGETS)
    with pytest.raises(ValueError, match="names 'influence', but the table targets has no rows"):
        score_samples(*given, params(["influence"]))
    with pytest.raises(ValueError, match="names 'learnability', but the table reference_scores has no rows"):
        score_samples(*given, params(["learnability"], reference="adapter"))


def test_a_missing_column_is_named() -> None:
    features, clusters = reading([1, 2], [1.0, 2.0])
    previous_scores, previous_subset = start_record()
    previous_scores = previous_scores.drop(columns="trained_nll")
    with pytest.raises(ValueError, match="previous_scores lacks columns: trained_nll"):
        score_samples(features, clusters, previous_scores, previous_subset, NO_REFERENCE, NO_TARGETS, params(["el2n"]))


def test_listed_comparisons_become_columns() -> None:
    features, clusters = reading([1, 2, 3], [1.0, 2.0, 3.0])
    given = (features, clusters, *start_record(), NO_REFERENCE, NO_TARGETS)
    assert {"density", "forgetting"} <= set(score_samples(*given, params(["el2n", "density", "forgetting"])).columns)
    assert "density" not in score_samples(*given, params(["el2n"])).columns
    assert "rank_average" in score_samples(*given, params(["el2n", "grand"], choice="rank_average")).columns
    with pytest.raises(ValueError, match=r"selector_experts\.experts names \['charm'\].*uniqueness"):
        score_samples(*given, params(["charm"]))


def test_the_order_of_rows_does_not_matter() -> None:
    features, clusters = reading([1, 2, 3, 4], [1.0, 2.0, 3.0, 4.0])
    given_params = params(["el2n", "density", "uniqueness"])
    plain = score_samples(features, clusters, *start_record(), NO_REFERENCE, NO_TARGETS, given_params)
    order = [2, 0, 3, 1]
    moved = StubFeatures(
        features.sample_ids[order], features.gradients[order], features.embeddings[order], features.scores.iloc[order]
    )
    again = score_samples(moved, clusters.iloc[order[::-1]], *start_record(), NO_REFERENCE, NO_TARGETS, given_params)
    pd.testing.assert_frame_equal(plain, again)

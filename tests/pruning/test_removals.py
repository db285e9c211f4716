"""Removals: the pool size is met exactly, the order of rows does not matter, and one row of every pair stays."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.pruning import rules
from adapt_infinity.pruning.removals import RANKINGS, PruningParams, choose_removals_by_cluster, drop_at_random
from adapt_infinity.subset.budgets import equal_shares
from tests.conftest import examples

RULES = rules.names()
NO_SAMPLES = pd.DataFrame({"sample_id": pd.Series([], dtype="int64")})

COLUMNS = ["sample_id", "source", "cluster", "duplicate_of", "similarity", "reason"]


def params(pool_size: int, **changed: object) -> PruningParams:
    defaults = {
        **{"rule": "greedy", "ranking": "expert", "min_cluster": 0, "must_keep": [], "screening": "auto"},
        **{"device": "cpu", "block": 4, "seed": 0},
    }
    return PruningParams(pool_size=pool_size, **{**defaults, **changed})  # type: ignore[arg-type]


def stage(
    angles: list[float], cluster: list[int] | None = None, must_keep: Sequence[int] = ()
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Arguments of `choose_removals_by_cluster`: rows on a circle at these degrees; the expert ranks them in order."""
    n = len(angles)
    cluster = cluster or [0] * n
    ids = 10 * np.arange(n) + 5
    radians = np.deg2rad(angles)
    pool_rows = pd.DataFrame({"sample_id": ids, "source": "charts"})
    clusters = pd.DataFrame(
        {
            "sample_id": ids,
            "cluster": np.array(cluster, dtype=np.int32),
            "similarity": np.linspace(0, 1, n, dtype=np.float32),
        }
    )
    scores = pd.DataFrame({"sample_id": ids, "el2n": np.arange(n, 0, -1) / (n + 1)})
    experts = pd.DataFrame({"cluster": sorted(set(cluster)), "expert": "el2n", "chosen": True})
    listed = pd.DataFrame({"sample_id": pd.Series(list(must_keep), dtype="int64")})
    return pool_rows, clusters, np.stack([np.cos(radians), np.sin(radians)], axis=1), scores, experts, listed


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ranking", RANKINGS)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 50))
@examples(20)
def test_the_pool_size_is_exact(rule: str, ranking: str, cluster: list[int], pool_size: int) -> None:
    angles = np.random.default_rng(len(cluster)).integers(0, 30, len(cluster)).astype(float).tolist()
    tables = stage(angles, cluster)
    removals = choose_removals_by_cluster(*tables, params(pool_size, rule=rule, ranking=ranking))
    assert removals.columns.tolist() == COLUMNS
    assert removals["sample_id"].is_unique
    assert set(removals["sample_id"]) <= set(tables[0]["sample_id"])
    assert len(cluster) - len(removals) == min(pool_size, len(cluster))
    clusters = tables[1].set_index("sample_id")["cluster"]
    assert removals["cluster"].tolist() == clusters.loc[removals["sample_id"]].tolist()
    sizes = clusters.groupby(clusters).size()
    leaving = removals.groupby("cluster").size().reindex(sizes.index, fill_value=0)
    assert (sizes - leaving).tolist() == equal_shares(sizes.to_numpy(), pool_size).tolist()
    known = removals[removals["duplicate_of"] >= 0]
    assert (clusters.loc[known["duplicate_of"]].to_numpy() == known["cluster"].to_numpy()).all()
    assert known["similarity"].notna().all()
    if rule == "greedy":
        assert not set(known["duplicate_of"]) & set(removals["sample_id"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ranking", RANKINGS)
@given(st.permutations(range(24)))
@examples(20)
def test_the_order_of_rows_changes_nothing(rule: str, ranking: str, order: list[int]) -> None:
    angles = np.random.default_rng(0).integers(0, 40, 24).astype(float).tolist()
    pool_rows, clusters, embeddings, scores, experts, _ = stage(angles, [row % 2 for row in range(24)])
    scores["el2n"] = np.arange(24) // 3  # with ties
    expected = choose_removals_by_cluster(
        pool_rows, clusters, embeddings, scores, experts, NO_SAMPLES, params(9, rule=rule, ranking=ranking)
    )
    shuffled = choose_removals_by_cluster(
        pool_rows.iloc[order[::-1]],
        clusters.iloc[order[7:] + order[:7]],
        embeddings[order],
        scores.iloc[order],
        experts,
        NO_SAMPLES,
        params(9, rule=rule, ranking=ranking, block=1000),
    )
    pd.testing.assert_frame_equal(shuffled, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("ranking", RANKINGS)
def test_an_isolated_pair_keeps_exactly_one(rule: str, ranking: str) -> None:
    """Two copies at 0° among rows far apart: one of the two is removed and names the other."""
    removals = choose_removals_by_cluster(*stage([0, 50, 120, 0, 200, 290]), params(5, rule=rule, ranking=ranking))
    assert len(removals) == 1
    assert {removals["sample_id"][0], removals["duplicate_of"][0]} == {5, 35}
    assert removals["similarity"][0] == pytest.approx(1)
    assert removals["reason"].tolist() == [f"redundant ({rule})"]


def test_greedy_removes_only_one_row_of_a_chain() -> None:
    """Chain a ~ b ~ c at 0°, 9°, 19°, a pair at 90°, 101°: semdedup removes b and c; greedy keeps c once b is gone."""
    angles = [0.0, 9.0, 19.0, 90.0, 101.0]
    semdedup = choose_removals_by_cluster(*stage(angles), params(3, rule="semdedup"))
    assert semdedup["sample_id"].tolist() == [15, 25]
    assert semdedup["duplicate_of"].tolist() == [5, 15]  # c names b, which is removed too
    greedy = choose_removals_by_cluster(*stage(angles), params(3))
    assert greedy["sample_id"].tolist() == [15, 45]
    assert greedy["duplicate_of"].tolist() == [5, 35]
    assert greedy["similarity"].tolist() == pytest.approx(np.cos(np.deg2rad([9, 11])).tolist(), abs=1e-6)


def test_greedy_names_a_kept_row_even_when_the_nearest_row_is_removed() -> None:
    """Row b is a duplicate of a. Row c resembled b most; b is removed too, so c names a."""
    removals = choose_removals_by_cluster(*stage([0.0, 9.0, 19.0, 90.0]), params(2))
    assert removals["sample_id"].tolist() == [15, 25]
    assert removals["duplicate_of"].tolist() == [5, 5]


@pytest.mark.parametrize("rule", RULES)
def test_of_a_pair_the_later_ranked_row_is_removed(rule: str) -> None:
    """By expert this is the row with the lower score, by centroid the row nearer to the centroid."""
    pool_rows, clusters, embeddings, scores, experts, _ = stage([0.0, 90.0, 0.0])
    tables = pool_rows, clusters, embeddings, scores.assign(el2n=[0.1, 0.2, 0.3]), experts, NO_SAMPLES
    assert choose_removals_by_cluster(*tables, params(2, rule=rule))["sample_id"].tolist() == [5]
    assert choose_removals_by_cluster(*tables, params(2, rule=rule, ranking="centroid"))["sample_id"].tolist() == [25]


@pytest.mark.parametrize("rule", RULES)
def test_equally_ranked_rows_are_ordered_by_their_id(rule: str) -> None:
    pool_rows, clusters, embeddings, scores, experts, _ = stage([0.0, 90.0, 0.0])
    removals = choose_removals_by_cluster(
        pool_rows, clusters, embeddings, scores.assign(el2n=1.0), experts, NO_SAMPLES, params(2, rule=rule)
    )
    assert removals["sample_id"].tolist() == [25]


def test_large_clusters_lose_more() -> None:
    removals = choose_removals_by_cluster(*stage([float(row) for row in range(12)], [0] * 8 + [1] * 3 + [2]), params(7))
    assert removals["cluster"].value_counts().to_dict() == {0: 5}


def test_a_cluster_without_budget_names_no_duplicates() -> None:
    removals = choose_removals_by_cluster(*stage([0.0, 1.0, 2.0], [0, 1, 2]), params(1))
    assert removals["duplicate_of"].tolist() == [-1, -1]
    assert removals["similarity"].isna().all()
    assert removals["reason"].tolist() == ["its cluster keeps no row"] * 2


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_pool_that_fits_loses_nothing(rule: str, n: int) -> None:
    removals = choose_removals_by_cluster(*stage([0.0] * n), params(4, rule=rule))
    assert removals.empty
    assert removals.columns.tolist() == COLUMNS
    assert removals["duplicate_of"].dtype == np.int64


def test_half_precision_rows_are_brought_to_length_one() -> None:
    pool_rows, clusters, embeddings, scores, experts, _ = stage([0.0, 30.0, 30.0])
    scaled = (3 * embeddings).astype(np.float16)
    removals = choose_removals_by_cluster(pool_rows, clusters, scaled, scores, experts, NO_SAMPLES, params(2))
    assert removals["similarity"].tolist() == pytest.approx([1.0], abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_row_of_zeros_resembles_nothing() -> None:
    pool_rows, clusters, embeddings, scores, experts, _ = stage([0.0, 1.0, 2.0])
    embeddings[1] = 0
    assert choose_removals_by_cluster(pool_rows, clusters, embeddings, scores, experts, NO_SAMPLES, params(2))[
        "sample_id"
    ].tolist() == [25]


def test_an_embedding_that_is_not_finite_names_its_sample() -> None:
    pool_rows, clusters, embeddings, scores, experts, _ = stage([0.0, 1.0, 2.0])
    embeddings[1, 0] = np.inf
    with pytest.raises(ValueError, match=r"embedding.*\[15\]"):
        choose_removals_by_cluster(pool_rows, clusters, embeddings, scores, experts, NO_SAMPLES, params(2))


def test_a_score_that_is_not_finite_names_its_sample() -> None:
    pool_rows, clusters, embeddings, scores, experts, _ = stage([0.0, 1.0, 2.0])
    scores.loc[2, "el2n"] = np.nan
    with pytest.raises(ValueError, match=r"not finite.*sample 25"):
        choose_removals_by_cluster(pool_rows, clusters, embeddings, scores, experts, NO_SAMPLES, params(2))


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
@examples(40)
def test_random_drops_are_exact_and_balanced(groups: list[int], pool_size: int, random: object) -> None:
    pool_rows = stage([0.0] * len(groups))[0]
    removals = drop_at_random(pool_rows, np.array(groups), NO_SAMPLES, pool_size, [0])
    assert removals.columns.tolist() == COLUMNS
    assert len(groups) - len(removals) == min(pool_size, len(groups))
    order = list(range(len(groups)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = drop_at_random(pool_rows.iloc[order], np.array(groups)[order], NO_SAMPLES, pool_size, [0])
    pd.testing.assert_frame_equal(shuffled, removals)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("pool_size", 0), ("rule", "dense"), ("ranking", "luck"), ("block", 0), ("seed", -1)],
        *[
            ("min_cluster", -1),
            ("screening", "int8"),
            ("device", "tpu"),
            ("device", "cuda:"),
        ],
    ],
)
def test_parameters_are_checked(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"pruning\.{key}.*{value}"):
        params(**{"pool_size": 1, key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("pool_rows", "source"),
        ("clusters", "similarity"),
        ("scores", "el2n"),
        ("cluster_experts", "expert"),
        ("must_keep", "sample_id"),
    ],
)
def test_a_missing_column_is_named(table: str, column: str) -> None:
    pool_rows, clusters, embeddings, scores, experts, must_keep = stage([0.0, 1.0])
    tables = {
        "pool_rows": pool_rows,
        "clusters": clusters,
        "scores": scores,
        "cluster_experts": experts,
        "must_keep": must_keep,
    }
    tables[table] = tables[table].drop(columns=column)
    with pytest.raises(ValueError, match=f"{table} lacks columns: {column}"):
        choose_removals_by_cluster(embeddings=embeddings, params=params(1), **tables)


def test_tables_of_unequal_length_are_refused() -> None:
    tables = stage([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"must have equally many rows, got \[3, 3, 3, 2\]"):
        choose_removals_by_cluster(*tables[:2], tables[2][:2], *tables[3:], params(1))

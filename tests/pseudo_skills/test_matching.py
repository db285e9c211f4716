"""Clusters are matched with those of the previous round."""

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.pseudo_skills import matching
from adapt_infinity.pseudo_skills.finding import cluster_rows
from adapt_infinity.pseudo_skills.matching import continued_clusters, match_clusters, start_clusters
from tests.pseudo_skills.planted import kmeans_inputs, params, planted


def table(clusters: list[int], first: int = 0) -> pd.DataFrame:
    ids = np.arange(first, first + len(clusters))
    return pd.DataFrame({"sample_id": ids, "cluster": clusters, "similarity": 1.0}).astype(matching.COLUMNS)


def test_links_by_hand() -> None:
    """Samples 2 to 7 are in both rounds; cluster 0 has most samples of both old clusters and continues one of them."""
    links = match_clusters(table([0, 0, 0, 0, 1, 1, 2], first=2), table([9, 5, 5, 5, 5, 4, 4, 4]))
    assert links.to_dict("list") == {
        "cluster": [0, 0, 1],
        "previous": [5, 4, 4],
        "shared": [3, 1, 2],
        "of_cluster": [0.75, 0.25, 1.0],
        "of_previous": [1.0, pytest.approx(1 / 3), pytest.approx(2 / 3)],
        "follows": [True, False, True],
    }
    assert continued_clusters(links, pd.Series([0, 1, 2])).tolist() == [5, 4, -1]


def test_continuations_are_one_to_one_and_share_the_most() -> None:
    """Both new clusters have samples of 7; the one that has no others continues it."""
    links = match_clusters(table([0] * 5 + [1] * 3), table([7, 7, 7, 8, 8, 7, 7, 7]))
    continued = links[links["follows"]]
    assert continued[["cluster", "previous"]].to_numpy().tolist() == [[0, 8], [1, 7]]


def test_few_shared_samples_are_no_continuation() -> None:
    """Cluster 1 shares one row in ten with 4, and nothing with any other."""
    before = table([3] * 20 + [4] * 10)
    links = match_clusters(table([0] * 20 + [1] + [2] * 9).assign(sample_id=np.arange(30)), before)
    assert links["follows"].tolist() == [True, False, True]
    late = match_clusters(table([0] * 19 + [1] * 11), table([3] * 20 + [4] * 9 + [5]))
    assert late.loc[~late["follows"], ["cluster", "previous"]].to_numpy().tolist() == [[1, 3], [1, 5]]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="previous_clusters lacks columns: cluster"):
        match_clusters(table([0]), table([0]).drop(columns="cluster"))


def test_the_first_round_continues_nothing() -> None:
    links = match_clusters(table([0, 1, 1]), start_clusters())
    assert links.empty
    assert links.dtypes.astype(str).tolist() == ["int32", "int32", "int64", "float64", "float64", "bool"]
    assert continued_clusters(links, pd.Series([0, 1])).tolist() == [-1, -1]


@pytest.mark.parametrize("k", [6, 10])
def test_clusters_are_matched_after_a_rotation_of_the_features(k: int) -> None:
    """All directions are rotated, a third of the rows has left, and as many new rows have arrived."""
    rng = np.random.default_rng(1)
    rows, skill = planted(n=900, skills=8, noise=0.6)
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    defaults = params(k=8, warm_start=True)
    old_ids = np.arange(900)
    before, _ = cluster_rows({"rows": rows.astype(np.float32)}, old_ids, defaults, start_clusters())
    stay = np.sort(rng.permutation(900)[:600])
    new, new_skill = planted(n=300, skills=8, noise=0.6)  # the same directions, other rows
    today = np.concatenate([rows[stay], new]) @ turn
    ids = np.concatenate([old_ids[stay], 900 + np.arange(300)])
    defaults = params(k=k, warm_start=True, seed=5)
    after, _ = cluster_rows({"rows": today.astype(np.float32)}, ids, defaults, before)
    links = match_clusters(after, before)
    were = {c: skill[before["cluster"] == c] for c in range(8)}
    skills = np.concatenate([skill[stay], new_skill])
    for cluster, previous in links.loc[links["follows"], ["cluster", "previous"]].to_numpy().tolist():
        assert np.bincount(skills[after["cluster"] == cluster]).argmax() == np.bincount(were[previous]).argmax()
    assert links["follows"].sum() == min(k, 8)


def test_warm_centroids_are_the_present_means_of_previous_clusters() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [1, 1]], dtype=np.float32)
    before = table([0, 0, 2, 2, 2, 1, 3])  # sample 6 has left the pool, and with it cluster 3
    with kmeans_inputs(rows) as (unit, kmeans_params):
        every = matching.warm_centroids(unit, np.arange(6), before, 5, kmeans_params)
        largest = matching.warm_centroids(unit, np.arange(6), before, 2, kmeans_params)
        none = matching.warm_centroids(unit, np.arange(6), start_clusters(), 5, kmeans_params)
    assert every is not None
    assert every.tolist() == [[1, 0], [pytest.approx(0.5**0.5)] * 2, [0, 1]]
    assert largest is not None
    assert largest.tolist() == [[1, 0], [0, 1]]
    assert none is None


def test_a_warm_start_on_unchanged_rows_needs_one_iteration() -> None:
    rows, _ = planted(n=500, skills=5, noise=0.5)
    given = {"rows": rows.astype(np.float32)}
    before, _ = cluster_rows(given, np.arange(500), params(k=5), start_clusters())
    after, _ = cluster_rows(given, np.arange(500), params(k=5, warm_start=True, iterations=1), before)
    assert after["cluster"].tolist() == before["cluster"].tolist()

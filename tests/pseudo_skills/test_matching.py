"""Clusters can be followed over rounds."""

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.pseudo_skills import matching
from adapt_infinity.pseudo_skills.finding import cluster_rows
from adapt_infinity.pseudo_skills.matching import follows, match_clusters, start_clusters
from tests.pseudo_skills.planted import params, planted, searching


def table(clusters: list[int], first: int = 0) -> pd.DataFrame:
    ids = np.arange(first, first + len(clusters))
    return pd.DataFrame({"sample_id": ids, "cluster": clusters, "similarity": 1.0}).astype(matching.COLUMNS)


def test_links_by_hand() -> None:
    """Samples 2 to 7 were there before; cluster 0 took most of both old ones and goes on with one of them."""
    links = match_clusters(table([0, 0, 0, 0, 1, 1, 2], first=2), table([9, 5, 5, 5, 5, 4, 4, 4]))
    assert links.to_dict("list") == {
        "cluster": [0, 0, 1],
        "previous": [5, 4, 4],
        "shared": [3, 1, 2],
        "of_cluster": [0.75, 0.25, 1.0],
        "of_previous": [1.0, pytest.approx(1 / 3), pytest.approx(2 / 3)],
        "follows": [True, False, True],
    }
    assert follows(links, pd.Series([0, 1, 2])).tolist() == [5, 4, -1]


def test_one_to_one_is_best_over_all() -> None:
    """Both new clusters have most of 7; the one that has nothing else gets it."""
    links = match_clusters(table([0] * 5 + [1] * 3), table([7, 7, 7, 8, 8, 7, 7, 7]))
    goes_on = links[links["follows"]]
    assert goes_on[["cluster", "previous"]].to_numpy().tolist() == [[0, 8], [1, 7]]


def test_a_coincidence_is_not_followed() -> None:
    """Cluster 1 shares one row in ten with 4, and nothing with any other."""
    before = table([3] * 20 + [4] * 10)
    links = match_clusters(table([0] * 20 + [1] + [2] * 9).assign(sample_id=np.arange(30)), before)
    assert links["follows"].tolist() == [True, False, True]
    late = match_clusters(table([0] * 19 + [1] * 11), table([3] * 20 + [4] * 9 + [5]))
    assert late.loc[~late["follows"], ["cluster", "previous"]].to_numpy().tolist() == [[1, 3], [1, 5]]


def test_the_first_round_follows_nothing() -> None:
    links = match_clusters(table([0, 1, 1]), start_clusters())
    assert links.empty
    assert links.dtypes.astype(str).tolist() == ["int32", "int32", "int64", "float64", "float64", "bool"]
    assert follows(links, pd.Series([0, 1])).tolist() == [-1, -1]


@pytest.mark.parametrize("k", [6, 10])
def test_a_planted_drift_is_followed(k: int) -> None:
    """Every direction has turned, a third of the rows have gone and as many new ones have come."""
    rng = np.random.default_rng(1)
    rows, skill = planted(n=900, skills=8, noise=0.6)
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    usual = params(k=8, warm_start=True)
    old_ids = np.arange(900)
    before, _ = cluster_rows({"rows": rows.astype(np.float32)}, old_ids, usual, start_clusters())
    stay = np.sort(rng.permutation(900)[:600])
    new, new_skill = planted(n=300, skills=8, noise=0.6)  # the same directions, other rows
    today = np.concatenate([rows[stay], new]) @ turn
    ids = np.concatenate([old_ids[stay], 900 + np.arange(300)])
    usual = params(k=k, warm_start=True, seed=5)
    after, _ = cluster_rows({"rows": today.astype(np.float32)}, ids, usual, before)
    links = match_clusters(after, before)
    were = {c: skill[before["cluster"] == c] for c in range(8)}
    skills = np.concatenate([skill[stay], new_skill])
    for cluster, previous in links.loc[links["follows"], ["cluster", "previous"]].to_numpy().tolist():
        assert np.bincount(skills[after["cluster"] == cluster]).argmax() == np.bincount(were[previous]).argmax()
    assert links["follows"].sum() == min(k, 8)


def test_warm_centroids_are_todays_means_of_yesterdays_members() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [1, 1]], dtype=np.float32)
    before = table([0, 0, 2, 2, 2, 1, 3])  # sample 6, and with it cluster 3, has left
    with searching(rows) as (unit, search):
        every = matching.warm_centroids(unit, np.arange(6), before, 5, search)
        largest = matching.warm_centroids(unit, np.arange(6), before, 2, search)
        none = matching.warm_centroids(unit, np.arange(6), start_clusters(), 5, search)
    assert every is not None
    assert every.tolist() == [[1, 0], [pytest.approx(0.5**0.5)] * 2, [0, 1]]
    assert largest is not None
    assert largest.tolist() == [[1, 0], [0, 1]]
    assert none is None


def test_a_warm_start_needs_one_look_when_nothing_has_changed() -> None:
    rows, _ = planted(n=500, skills=5, noise=0.5)
    given = {"rows": rows.astype(np.float32)}
    before, _ = cluster_rows(given, np.arange(500), params(k=5), start_clusters())
    after, _ = cluster_rows(given, np.arange(500), params(k=5, warm_start=True, iterations=1), before)
    assert after["cluster"].tolist() == before["cluster"].tolist()

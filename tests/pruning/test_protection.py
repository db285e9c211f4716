"""Protected rows stay: listed samples always, small clusters as long as the pool size allows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.pool.pool import remove
from adapt_infinity.pruning import rules
from adapt_infinity.pruning.protection import must_keep_rows, protected_shares
from adapt_infinity.pruning.removals import choose_removals_by_cluster, drop_at_random
from adapt_infinity.subset.budgets import equal_shares
from tests.conftest import examples
from tests.pool.test_pool import pool_of, removals
from tests.pruning.test_removals import params, stage

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=8)


@given(SIZES, st.integers(0, 60))
def test_without_minimums_shares_are_equal(sizes: list[int], pool_size: int) -> None:
    counts = np.array(sizes)
    shares = protected_shares(counts, np.zeros_like(counts), pool_size)
    assert shares.tolist() == equal_shares(counts, pool_size).tolist()


@given(SIZES, st.data(), st.integers(0, 14))
@examples(200)
def test_shares_are_exact_and_keep_the_required_rows(sizes: list[int], data: st.DataObject, min_cluster: int) -> None:
    counts = np.array(sizes)
    required = np.array([data.draw(st.integers(0, size)) for size in sizes])
    pool_size = data.draw(st.integers(int(required.sum()), int(counts.sum()) + 3))
    shares = protected_shares(counts, required, pool_size, min_cluster)
    assert shares.sum() == min(pool_size, counts.sum())
    assert ((required <= shares) & (shares <= counts)).all()
    small = counts <= min_cluster
    if counts[small].sum() + required[~small].sum() <= pool_size:
        assert (shares[small] == counts[small]).all()
    else:
        assert (shares[~small] == required[~small]).all()


def test_small_clusters_by_hand() -> None:
    """Groups of 9, 3 and 2 rows share 6 as 2, 2, 2. With min_cluster 3 they share it as 1, 3, 2, and 4 as 0, 2, 2."""
    sizes, none = np.array([9, 3, 2]), np.zeros(3, dtype=int)
    assert protected_shares(sizes, none, 6).tolist() == [2, 2, 2]
    assert protected_shares(sizes, none, 6, min_cluster=3).tolist() == [1, 3, 2]
    assert protected_shares(sizes, none, 4, min_cluster=3).tolist() == [0, 2, 2]
    assert protected_shares(sizes, np.array([1, 0, 0]), 4, min_cluster=3).tolist() == [1, 2, 1]


@pytest.mark.parametrize("rule", rules.names())
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.data())
@examples(30)
def test_listed_samples_are_never_pruned(rule: str, cluster: list[int], data: st.DataObject) -> None:
    """They stay even where all rows are copies of one another."""
    ids = stage([0.0] * len(cluster))[0]["sample_id"].tolist()
    listed = data.draw(st.lists(st.sampled_from(ids), unique=True))
    pool_size = data.draw(st.integers(max(1, len(listed)), len(ids) + 2))
    tables = stage([0.0] * len(cluster), cluster, listed)
    removed = choose_removals_by_cluster(*tables, params(pool_size, rule=rule, ranking="centroid"))
    assert len(ids) - len(removed) == min(pool_size, len(ids))
    assert not set(removed["sample_id"]) & set(listed)
    drawn = drop_at_random(tables[0], np.array(cluster), tables[-1], pool_size, [0])
    assert len(ids) - len(drawn) == min(pool_size, len(ids))
    assert not set(drawn["sample_id"]) & set(listed)


@pytest.mark.parametrize("rule", rules.names())
def test_of_a_pair_the_listed_row_stays(rule: str) -> None:
    """It stays although the other row is ranked before it, and the removed row names it as its duplicate."""
    removed = choose_removals_by_cluster(*stage([0.0, 90.0, 0.0], must_keep=[25]), params(2, rule=rule))
    assert removed[["sample_id", "duplicate_of"]].values.tolist() == [[5, 25]]


def test_small_clusters_lose_nothing() -> None:
    tables = stage([float(row) for row in range(12)], [0] * 8 + [1] * 3 + [2])
    removed = choose_removals_by_cluster(*tables, params(6, min_cluster=3))
    assert removed["cluster"].value_counts().to_dict() == {0: 6}


def test_references_become_rows() -> None:
    pool = pool_of(4, 3)
    rows = must_keep_rows(pool, ["d2/d21", 0], 2, Path())
    assert rows.values.tolist() == [[0, "d1", "s"], [5, "d2", "s"]]
    assert must_keep_rows(pool, [], 1, Path()).columns.tolist() == ["sample_id", "source", "skill"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["d1/nobody"], "pruning.must_keep: there is no sample 'd1/nobody'"),
        ([9], "pruning.must_keep: there is no sample 9"),
        ([1, 2], "pruning.must_keep: sample 2 has left the pool; `kedro pool restore --samples 2`"),
        ([0, 1, 3], "pruning.must_keep lists 3 samples, more than pruning.pool_size = 2"),
    ],
)
def test_an_impossible_must_keep_list_is_an_error(listed: list[int | str], message: str) -> None:
    pool = remove(pool_of(4), removals([2]), 2)
    with pytest.raises(ValueError, match=message) as error:
        must_keep_rows(pool, listed, 2, Path())
    assert "\n" not in str(error.value)


def test_a_strategy_that_removes_a_listed_sample_stops_the_round() -> None:
    from adapt_infinity.pruning.protection import prune_after_training as leave

    log = pd.DataFrame({"loss": [1.0]})
    with pytest.raises(ValueError, match=r"removes samples that pruning\.must_keep lists: \[2\]"):
        leave(pool_of(4), removals([1, 2]), pd.DataFrame({"sample_id": [2, 3]}), log, 1)

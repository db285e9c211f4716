"""The history of a small pool of which every event is known."""

import pandas as pd
import pytest

from adapt_infinity.pool.history import (
    RoundRecord,
    composition,
    difference,
    find_sample,
    history,
    sample_history,
    summarise_clusters,
)
from adapt_infinity.pool.pool import Pool, join_pool, remove, restore
from tests.conftest import unread
from tests.pool.test_pool import arrivals

ITEMS = pd.DataFrame({"sample_id": [0], "source": ["bench"], "source_id": ["q1"]})


def subset(pool: Pool, clusters: list[int], selected: list[bool]) -> pd.DataFrame:
    index = pool.index
    return index.assign(cluster=clusters, expert="el2n", score=0.25, stratum=3, selected=selected)


@pytest.fixture(scope="module")
def records() -> list[RoundRecord]:
    """Two rounds of three arrivals; sample 1 is pruned in round 1 as a duplicate of 0 and restored in round 2."""
    experts = pd.DataFrame(
        {
            "cluster": [0, 0],
            "rank": [1, 2],
            "expert": ["el2n", "entropy"],
            "entropy": [2.5, 1.0],
            "chosen": [True, False],
        }
    )
    first = join_pool(Pool(), unread(arrivals("a", 3)), 1)
    removal = {"sample_id": [1], "cluster": 0, "duplicate_of": 0, "similarity": 0.97, "reason": "redundant (greedy)"}
    kept = remove(first, pd.DataFrame(removal), 1)
    second = join_pool(kept, unread(arrivals("b", 3, 3, 2)), 2)
    restored = restore(second, [1], 2, "asked for")
    overlaps = pd.DataFrame(
        {"sample_id": [2], "source_id": ["a2"], "scope": "benchmark", "kind": "near item", "other": 0, "bits": 4}
    )
    return [
        RoundRecord(
            number=1,
            version="v1",
            joined_pool=first,
            kept_pool=kept,
            rejected=7,
            subset=subset(first, [0, 0, 1], [True, False, True]),
            cluster_experts=experts,
            overlaps=overlaps,
        ),
        RoundRecord(
            number=2, version="v2", joined_pool=second, kept_pool=restored, subset=subset(second, [-1] * 5, [True] * 5)
        ),
    ]


def test_the_history_of_a_pruned_sample_names_the_sample_that_it_duplicates(records: list[RoundRecord]) -> None:
    lines = list(sample_history(1, records, ITEMS))
    assert lines[0] == "sample 1: a/a1, skill s"
    assert "round 1: cluster 0 of 2 samples, expert el2n (entropies: el2n 2.50, entropy 1.00), score 0.25" in lines[5]
    assert lines[5].endswith("stratum 3: not trained on")
    assert lines[6] == "round 1: pruned: redundant (greedy); resembles sample 0, similarity 0.9700"
    assert lines[7:] == ["round 2: restored (asked for)", "now: in the pool"]


def test_an_overlap_names_the_test_item(records: list[RoundRecord]) -> None:
    assert "round 1: near item of test item bench/q1, perceptual hashes differ in 4 bits" in list(
        sample_history(2, records, ITEMS)
    )


def test_the_history_says_when_a_round_had_no_clusters(records: list[RoundRecord]) -> None:
    assert "round 2: trained on (this strategy makes no clusters)" in list(sample_history(4, records, ITEMS))
    assert summarise_clusters(records[1]).empty


def test_history_counts_every_round(records: list[RoundRecord]) -> None:
    columns = ["arrived", "rejected", "pool", "trained on", "pruned", "restored", "kept", "version"]
    assert history(records)[columns].values.tolist() == [[3, 7, 3, 2, 1, 0, 2, "v1"], [3, 0, 5, 5, 0, 1, 6, "v2"]]


def test_composition_and_clusters(records: list[RoundRecord]) -> None:
    assert composition(records[0].kept_pool, "source").values.tolist() == [["a", 3, 2, "100.0%"]]
    assert summarise_clusters(records[0]).values.tolist() == [[0, 2, 1, 1, "s"], [1, 1, 1, 1, "s"]]


def test_the_difference_of_two_pools_counts_added_and_removed_samples(records: list[RoundRecord]) -> None:
    old, new = records[0].kept_pool, records[1].kept_pool
    assert difference(old, new).values.tolist() == [["a", "s", 1, 0], ["b", "s", 3, 0]]
    assert difference(new, old).values.tolist() == [["a", "s", 0, 1], ["b", "s", 0, 3]]
    assert difference(old, old).empty


def test_a_sample_is_found_by_number_and_by_source_id(records: list[RoundRecord]) -> None:
    pool = records[-1].kept_pool
    assert find_sample(pool, "4") == find_sample(pool, "b/b1") == 4
    for name in ("6", "b/zz", "c/b1", "nonsense"):
        with pytest.raises(ValueError, match="there is no sample"):
            find_sample(pool, name)

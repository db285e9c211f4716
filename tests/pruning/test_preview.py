"""The output of a dry run of pruning, worked out by hand."""

import pandas as pd

from adapt_infinity.pruning.preview import pairs, reasons, totals
from tests.pool.test_pool import pool_of

POOL = pool_of(3, 2)
REMOVALS = pd.DataFrame(
    {
        "sample_id": [1, 2, 4],
        "duplicate_of": [0, 1, -1],
        "similarity": [0.9, 1.0, float("nan")],
        "reason": ["redundant (semdedup)", "redundant (semdedup)", "its cluster keeps no row"],
    }
)


def test_totals() -> None:
    assert totals(POOL.index, REMOVALS, "source").values.tolist() == [
        ["d1", 3, 2, "66.7%", 1],
        ["d2", 2, 1, "50.0%", 1],
    ]
    assert totals(POOL.index, REMOVALS.iloc[:0], "source")["leave"].tolist() == [0, 0]


def test_reasons_without_a_similarity_show_a_dash() -> None:
    alone, redundant = reasons(REMOVALS).to_dict("records")
    assert (alone["reason"], alone["leave"], alone["median"]) == ("its cluster keeps no row", 1, "-")
    assert (redundant["leave"], redundant["lowest"], redundant["median"]) == (2, "0.9000", "0.9500")
    assert reasons(REMOVALS.iloc[:0]).empty


def test_pairs_are_ordered_from_the_most_to_the_least_similar() -> None:
    lines = list(pairs(POOL, REMOVALS, 5))
    assert lines == [
        "1.0000  leaves      2  d1/d12: 2? → 2",
        "        leaves too  1  d1/d11: 1? → 1",
        "0.9000  leaves      1  d1/d11: 1? → 1",
        "        stays       0  d1/d10: 0? → 0",
    ]
    assert list(pairs(POOL, REMOVALS, 1)) == lines[:2]
    assert list(pairs(POOL, REMOVALS.iloc[2:], 5)) == []

"""The pool: nothing that ever arrived is lost, and an id names one sample for ever."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.pool import Pool, join_pool, remove


def arrivals(source: str, count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "source": source,
            "source_id": [f"{source}{number}" for number in range(count)],
            "skill": "s",
            "images": [[] for _ in range(count)],
            "turns": [[] for _ in range(count)],
            "content_hash": "",
        }
    )


def removals(ids: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"sample_id": pd.Series(ids, dtype="int64"), "reason": "duplicate"})


@given(st.lists(st.tuples(st.integers(1, 6), st.sets(st.integers(0, 40))), min_size=1, max_size=6))
def test_pool_and_ledger_are_all_that_ever_arrived(rounds: list[tuple[int, set[int]]]) -> None:
    pool = Pool()
    for number, (count, leaving) in enumerate(rounds, start=1):
        pool, rows = join_pool(pool, arrivals(f"d{number}", count), number)
        assert rows["sample_id"].tolist() == pool.rows["sample_id"].tolist()
        before = pool
        pool = remove(pool, removals(sorted(leaving & set(pool.rows["sample_id"]))), number)
        assert pool.shards == before.shards  # what was written stays as it is
        assert before.rows["sample_id"].is_monotonic_increasing
    everything = [*pool.rows["sample_id"], *pool.removed["sample_id"]]
    assert sorted(everything) == list(range(sum(count for count, _ in rounds)))


def test_an_id_that_arrives_twice_is_refused() -> None:
    pool, _ = join_pool(Pool(), arrivals("d", 2), 1)
    with pytest.raises(ValueError, match="2 arriving ids were already used by their source"):
        join_pool(pool, arrivals("d", 2), 2)


def test_only_what_is_there_can_leave() -> None:
    pool, _ = join_pool(Pool(), arrivals("d", 2), 1)
    pool = remove(pool, removals([1]), 1)
    with pytest.raises(ValueError, match=r"not in the pool: \[1\]"):
        remove(pool, removals([1]), 2)

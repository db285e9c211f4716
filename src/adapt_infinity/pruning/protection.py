"""What must not be pruned: samples that the user lists, and small clusters."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from adapt_infinity.pool.pool import Pool, remove
from adapt_infinity.pool.references import resolve
from adapt_infinity.subset.budgets import at_least, equal_shares

KEY = "pruning.must_keep"


def must_keep_rows(pool: Pool, listed: list[int | str], pool_size: int, project: Path) -> pd.DataFrame:
    """The samples that `pruning.must_keep` lists, a row each: sample_id, source, skill.

    `ValueError`, in one line, for a name of no sample, for a sample that has already left the pool (the list cannot
    bring it back), and for more samples than the pool may keep.
    """
    ids = resolve(pool, listed, key=KEY, project=project)
    gone = ids[~pool.present[ids]]
    if len(gone):
        raise ValueError(
            f"{KEY}: sample {gone[0]} has left the pool; `kedro pool restore --samples {gone[0]}` brings it back"
        )
    if len(ids) > pool_size:
        raise ValueError(f"{KEY} lists {len(ids)} samples, more than pruning.pool_size = {pool_size}")
    return pool.arrived.iloc[ids][["sample_id", "source", "skill"]].reset_index(drop=True)


def remove_from_pool(pool: Pool, removals: pd.DataFrame, must_keep: pd.DataFrame, round: int) -> Pool:
    """The pool without the samples of `removals`, for good.

    `ValueError` when one of them is listed in `pruning.must_keep`: a strategy must not remove it.
    """
    lost = np.intersect1d(removals["sample_id"], must_keep["sample_id"])
    if len(lost):
        raise ValueError(f"the strategy removes samples that {KEY} lists: {lost[:5].tolist()}")
    return remove(pool, removals, round)


def prune_after_training(
    pool: Pool, removals: pd.DataFrame, must_keep: pd.DataFrame, training_log: pd.DataFrame, round: int
) -> Pool:
    """The pool that the next round starts from. Pruning is permanent, so it waits until the round has trained."""
    assert len(training_log) > 0, "a round that has not trained prunes nothing"
    return remove_from_pool(pool, removals, must_keep, round)


def is_protected(sample_ids: Int[np.ndarray, " n"], must_keep: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Whether each sample is listed."""
    return np.isin(sample_ids, must_keep["sample_id"].to_numpy())


def protected_shares(
    sizes: Int[np.ndarray, " groups"], must: Int[np.ndarray, " groups"], pool_size: int, min_cluster: int = 0
) -> Int[np.ndarray, " groups"]:
    """How many rows each group keeps: equal shares of `pool_size`, but none below its floor. They add up exactly.

    A group's floor is the rows of it that must stay (`must`), or all its rows if it has no more than `min_cluster`.
    What the floors take, larger groups go without, down to their own must-keeps. When the floors do not fit together,
    `pool_size` wins: groups above `min_cluster` are left with their must-keeps, and those that it protects share the
    rest equally, again none below its must-keeps.
    """
    assert must.sum() <= pool_size
    small = sizes <= min_cluster
    floors = np.where(small, sizes, must)
    if floors.sum() > pool_size:
        floors, sizes = must, floors
    return at_least(lambda some, budget: equal_shares(sizes[some], budget), floors, pool_size)

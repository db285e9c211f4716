"""Protection from pruning: samples that the user lists in `pruning.must_keep`, and small clusters."""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pool.pool import Pool, remove
from adapt_infinity.pool.references import resolve
from adapt_infinity.subset.budgets import at_least, equal_shares

KEY = "pruning.must_keep"


def must_keep_rows(pool: Pool, listed: list[int | str], pool_size: int, project: Path) -> pd.DataFrame:
    """One row per sample that `pruning.must_keep` lists: sample_id, source, skill.

    `listed` are ids or references as pool/references.py reads them; `project` is the folder of relative file names.
    `ValueError` for a reference to no sample, for a sample that has already left the pool (the list cannot bring it
    back), and for more samples than `pool_size`.
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
    """The pool without the samples of `removals` (column sample_id), which leave permanently in this round.

    `ValueError` when `removals` contains a sample that `must_keep` lists: a strategy must not remove it.
    """
    forbidden = np.intersect1d(removals["sample_id"], must_keep["sample_id"])
    if len(forbidden):
        raise ValueError(f"the strategy removes samples that {KEY} lists: {forbidden[:5].tolist()}")
    return remove(pool, removals, round)


def prune_after_training(
    pool: Pool, removals: pd.DataFrame, must_keep: pd.DataFrame, training_log: pd.DataFrame, round: int
) -> Pool:
    """The pool that the next round starts from: `remove_from_pool`, once the round has trained.

    Pruning is permanent, so it must not happen in a round whose training fails.
    """
    assert len(training_log) > 0, "a round that has not trained prunes nothing"
    return remove_from_pool(pool, removals, must_keep, round)


def is_protected(sample_ids: Int[np.ndarray, " n"], must_keep: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Whether each sample is one of those that `must_keep` (column sample_id) lists."""
    require_columns(must_keep, "must_keep", ["sample_id"])
    return np.isin(sample_ids, must_keep["sample_id"].to_numpy())


def protected_shares(
    sizes: Int[np.ndarray, " groups"], required: Int[np.ndarray, " groups"], pool_size: int, min_cluster: int = 0
) -> Int[np.ndarray, " groups"]:
    """How many rows each group keeps: equal shares of `pool_size`, but none below the group's minimum.

    The shares add up to min(pool_size, all rows). The minimum of a group is the number of its rows that must stay
    (`required`), or all its rows if it has at most `min_cluster` rows. Larger groups give up what the minimums need,
    down to their own required rows. If the minimums together exceed `pool_size`, then groups with more than
    `min_cluster` rows keep only their required rows, and the small groups share the rest equally, again none below its
    required rows.
    """
    assert required.sum() <= pool_size
    small = sizes <= min_cluster
    floors = np.where(small, sizes, required)
    if floors.sum() > pool_size:
        floors, sizes = required, floors
    return at_least(lambda some, budget: equal_shares(sizes[some], budget), floors, pool_size)

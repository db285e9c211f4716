"""The pool: everything that ever arrived, in shards, minus everything that ever left, in a ledger.

Both only grow. A round joins its arrivals as one new shard and, after pruning, appends one ledger part; nothing is
rewritten, so any past pool is a prefix of the present one and restoring a sample is appending too. Sample ids are
given in order of arrival, from 0, and never given twice.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

INDEX_COLUMNS = ["sample_id", "round", "source", "skill", "content_hash"]


@dataclass(frozen=True)
class Part:
    """One write-once table: a shard of arrivals or a part of the ledger, and the round that made it."""

    round: int
    rows: pd.DataFrame


@dataclass(frozen=True)
class Pool:
    """Shards and ledger in order of their rounds."""

    shards: tuple[Part, ...] = ()
    ledger: tuple[Part, ...] = ()

    @cached_property
    def arrived(self) -> pd.DataFrame:
        """Every row that ever arrived, by ascending sample_id."""
        return _stack(self.shards)

    @cached_property
    def removed(self) -> pd.DataFrame:
        """Every removal on record, in the order in which it was made."""
        return _stack(self.ledger)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows that are in the pool now, by ascending sample_id."""
        if self.removed.empty:
            return self.arrived
        return self.arrived[~self.arrived["sample_id"].isin(self.removed["sample_id"])].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.rows)


def start_pool() -> Pool:
    """The pool before anything has arrived."""
    return Pool()


def join_pool(kept: Pool, arrivals: pd.DataFrame, round: int) -> tuple[Pool, pd.DataFrame]:
    """Arrivals join the survivors: the pool of this round and its index (sample_id, round, source, skill, hash).

    `ValueError` when a source_id arrives that its source has brought before: an id names one sample for ever.
    """
    first = len(kept.arrived)
    shard = arrivals.assign(round=round, sample_id=np.arange(first, first + len(arrivals), dtype=np.int64))
    shard = shard[["sample_id", "round", *[name for name in arrivals.columns if name != "round"]]]
    pool = Pool((*kept.shards, Part(round, shard)), kept.ledger)
    again = pool.arrived.duplicated(["source", "source_id"])
    if again.any():
        row = pool.arrived[again].iloc[0]
        raise ValueError(
            f"{again.sum()} arriving ids were already used by their source in an earlier round, "
            f"the first: {row['source']}/{row['source_id']}"
        )
    return pool, index(pool)


def remove(pool: Pool, removals: pd.DataFrame, round: int) -> Pool:
    """The pool without the samples of `removals`, which go on record in the ledger.

    `ValueError` when a removal names a sample that is not in the pool.
    """
    strangers = ~removals["sample_id"].isin(pool.rows["sample_id"])
    if strangers.any():
        raise ValueError(
            f"removals name samples that are not in the pool: {removals['sample_id'][strangers].tolist()[:5]}"
        )
    if removals.empty:
        return pool
    return Pool(pool.shards, (*pool.ledger, Part(round, removals.assign(round=round))))


def index(pool: Pool) -> pd.DataFrame:
    """One small row a sample, without its words: sample_id, round, source, skill, content_hash."""
    if pool.rows.empty:
        return pd.DataFrame(columns=INDEX_COLUMNS)
    return pool.rows[INDEX_COLUMNS].reset_index(drop=True)


def _stack(parts: tuple[Part, ...]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=["sample_id", "round", "source", "source_id", "skill"])
    return pd.concat([part.rows for part in parts], ignore_index=True)

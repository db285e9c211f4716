"""The pool: all samples that ever arrived, in shards, and a ledger of all samples that were removed or restored.

Both only grow. A round adds its arrivals as one new shard and, after pruning, appends one part to the ledger. Nothing
is rewritten, so every earlier pool is a prefix of the present one. Restoring a sample appends to the ledger, too: the
last entry of a sample says whether it is in the pool. Sample ids count arrivals from 0 and are never reused, so a
sample's id is its row number in all shards together.

Text and pictures stay on disk until they are asked for (`fetch`, `windows`). In memory is only the index: a few numbers
and names per sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Bool, Int

from adapt_infinity.data import parquet
from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.data.tables import require_columns

INDEX_COLUMNS = ["sample_id", "round", "source", "skill"]
REMOVED, RESTORED = "removed", "restored"
LEDGER_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("round", pa.int32()),
        ("action", pa.string()),  # removed or restored
        ("cluster", pa.int32()),  # of the sample in the round that removed it
        ("duplicate_of", pa.int64()),  # the nearest kept sample; -1: none
        ("similarity", pa.float64()),  # cosine similarity of their embeddings
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """A table that is written once, by one round: a shard of arrivals or a part of the ledger.

    `stored` describes its file (name, hash, bytes, rows) once it has one; see datasets/pool.py.
    """

    round: int
    rows: ds.Dataset
    stored: Mapping[str, Any] | None = field(default=None, compare=False)

    @cached_property
    def size(self) -> int:
        """Number of rows."""
        return int(self.stored["rows"]) if self.stored else int(self.rows.count_rows())


@dataclass(frozen=True)
class Pool:
    """Shards and ledger parts, in the order of their rounds. Immutable: the functions below return a new pool."""

    shards: tuple[Part, ...] = ()
    ledger: tuple[Part, ...] = ()

    @cached_property
    def arrived(self) -> pd.DataFrame:
        """One row (`INDEX_COLUMNS`) per sample that ever arrived, by ascending sample_id."""
        tables = [part.rows.to_table(columns=INDEX_COLUMNS) for part in self.shards]
        empty = pa.schema([SAMPLE_SCHEMA.field(name) for name in INDEX_COLUMNS]).empty_table()
        return pa.concat_tables([empty, *tables]).to_pandas()

    @cached_property
    def ledger_table(self) -> pd.DataFrame:
        """Every removal and restoration (`LEDGER_SCHEMA`), in the order in which they were made."""
        tables = [part.rows.to_table() for part in self.ledger]
        return pa.concat_tables([LEDGER_SCHEMA.empty_table(), *tables]).to_pandas()

    @cached_property
    def present(self) -> Bool[np.ndarray, " arrived"]:
        """For each sample that ever arrived, whether it is in the pool now; indexed by sample_id."""
        present = np.ones(self.size, dtype=bool)
        for part in self.ledger:
            entries = part.rows.to_table(columns=["sample_id", "action"])
            ids = entries["sample_id"].to_numpy()
            present[ids] = pc.equal(entries["action"], RESTORED).to_numpy()
        return present

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row (`INDEX_COLUMNS`) per sample that is in the pool now, by ascending sample_id."""
        return self.arrived[self.present].reset_index(drop=True)

    @property
    def size(self) -> int:
        """Number of samples that ever arrived."""
        return sum(part.size for part in self.shards)

    def __len__(self) -> int:
        """Number of samples that are in the pool now."""
        return int(self.present.sum())

    def fetch(
        self, sample_ids: Sequence[int] | Int[np.ndarray, " n"], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The rows of samples, in the order of `sample_ids`, whether or not they are in the pool now.

        All columns of `SAMPLE_SCHEMA`, or only `columns`. `ValueError` for an id that was never given and for an
        unknown column.
        """
        ids = np.asarray(sample_ids, dtype=np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < self.size):
            raise ValueError(f"there is no sample {ids[(ids < 0) | (ids >= self.size)][0]}; ids run to {self.size - 1}")
        unknown = sorted(set(columns or ()) - set(SAMPLE_SCHEMA.names))
        if unknown:
            raise ValueError(f"the pool has no column {unknown[0]!r}; its columns: {', '.join(SAMPLE_SCHEMA.names)}")
        first_ids = np.cumsum([0, *[part.size for part in self.shards]])
        shard_of_row = np.searchsorted(first_ids, ids, side="right") - 1
        schema = SAMPLE_SCHEMA if columns is None else pa.schema([SAMPLE_SCHEMA.field(name) for name in columns])
        found, positions = [schema.empty_table()], []
        for shard in np.unique(shard_of_row):
            here = np.flatnonzero(shard_of_row == shard)
            found.append(parquet.take(self.shards[shard].rows, ids[here] - first_ids[shard], schema.names))
            positions.append(here)
        order = np.argsort(np.concatenate(positions)) if positions else np.empty(0, np.int64)
        return pa.concat_tables(found).take(pa.array(order))

    def rows(self, sample_ids: Sequence[int] | Int[np.ndarray, " n"] | None = None) -> pd.DataFrame:
        """All columns of the given samples, or of all that are in the pool now, as a DataFrame in memory."""
        ids = np.flatnonzero(self.present) if sample_ids is None else sample_ids
        return self.fetch(ids).to_pandas()

    def windows(self, size: int) -> Iterator[pd.DataFrame]:
        """The samples in the pool now, by ascending sample_id, in DataFrames of `size` rows (the last may be shorter).

        Each shard is read once; one window and one record batch are in memory.
        """
        first = 0
        pending: list[pa.Table] = []
        pending_rows = 0
        for part in self.shards:
            for batch in part.rows.to_batches(batch_readahead=parquet.READAHEAD, fragment_readahead=1):
                mask = self.present[first : first + batch.num_rows]
                first += batch.num_rows
                pending.append(pa.table(batch).filter(pa.array(mask)))
                pending_rows += len(pending[-1])
                while pending_rows >= size:
                    merged = pa.concat_tables(pending)
                    yield merged.slice(0, size).to_pandas()
                    pending, pending_rows = [merged.slice(size)], pending_rows - size
        if pending_rows:
            yield pa.concat_tables(pending).to_pandas()


def start_pool() -> Pool:
    """The empty pool, before any sample has arrived."""
    return Pool()


def join_pool(kept: Pool, arrivals: ds.Dataset, round: int) -> Pool:
    """The pool `kept` with `arrivals` (columns of `SAMPLE_SCHEMA`) as a new shard.

    The arrivals' sample ids must continue those of the pool. `ValueError` when a column is missing, and when a
    source_id arrives again from the same source: an id names one sample for ever.
    """
    require_columns(arrivals.schema.empty_table().to_pandas(), "the table of arrivals", SAMPLE_SCHEMA.names)
    ids = arrivals.to_table(columns=["sample_id"])["sample_id"].to_numpy()
    assert (ids == np.arange(kept.size, kept.size + len(ids))).all(), "sample ids count arrivals"
    names = arrivals.to_table(columns=["source", "source_id"])
    for source in pc.unique(names["source"]).to_pylist():
        arriving = names.filter(pc.equal(names["source"], source))["source_id"]
        again = arriving.filter(pc.is_in(arriving, known_ids(kept, source)))
        if len(again):
            raise ValueError(
                f"{len(again)} arriving ids were already used by their source in an earlier round, "
                f"the first: {source}/{again[0]}"
            )
    return Pool((*kept.shards, Part(round, arrivals)), kept.ledger)


def known_ids(pool: Pool, source: str) -> pa.Array:
    """The source_id of every sample that ever arrived from `source`."""
    of_source = ds.field("source") == source
    tables = [part.rows.to_table(columns=["source_id"], filter=of_source) for part in pool.shards]
    return pa.concat_arrays([pa.array([], pa.string()), *[chunk for t in tables for chunk in t["source_id"].chunks]])


def remove(pool: Pool, removals: pd.DataFrame, round: int) -> Pool:
    """The pool without the samples in the table `removals`, which become entries of the ledger.

    `removals` has a column sample_id, and may have the other columns of `LEDGER_SCHEMA`. `ValueError` when a sample is
    not in the pool or is listed twice.
    """
    return _append(pool, removals, round, REMOVED)


def restore(pool: Pool, sample_ids: Sequence[int] | Int[np.ndarray, " n"], round: int, reason: str) -> Pool:
    """The pool with removed samples in it again; the ledger records it with the reason.

    `ValueError` when a sample never arrived, is in the pool already, or is listed twice.
    """
    return _append(
        pool, pd.DataFrame({"sample_id": np.asarray(sample_ids, np.int64), "reason": reason}), round, RESTORED
    )


def removed_in_round(pool: Pool, round: int) -> Int[np.ndarray, " n"]:
    """The ids of the samples that a round removed and that are still out of the pool, ascending."""
    ledger = pool.ledger_table
    removed = ledger[(ledger["round"] == round) & (ledger["action"] == REMOVED)]["sample_id"].to_numpy()
    return np.unique(removed[~pool.present[removed]])


def index_pool(pool: Pool) -> pd.DataFrame:
    """The index of the pool, without text and pictures: one row per sample, with sample_id, round, source, skill."""
    return pool.index


def _append(pool: Pool, entries: pd.DataFrame, round: int, action: str) -> Pool:
    require_columns(entries, f"the table of {action} samples", ["sample_id"])
    ids = entries["sample_id"].to_numpy(np.int64)
    arrived = (ids >= 0) & (ids < pool.size)
    wrong = ~arrived
    wrong[arrived] = pool.present[ids[arrived]] != (action == REMOVED)
    if wrong.any():
        why = "they are not in the pool" if action == REMOVED else "they are in the pool already, or never arrived"
        raise ValueError(f"some samples cannot be {action}, because {why}: {ids[wrong].tolist()[:5]}")
    if len(np.unique(ids)) != len(ids):
        raise ValueError(f"a sample is listed twice among those to be {action}")
    if entries.empty:
        return pool
    part = Part(round, parquet.in_memory(entries.assign(round=round, action=action), LEDGER_SCHEMA))
    return Pool(pool.shards, (*pool.ledger, part))

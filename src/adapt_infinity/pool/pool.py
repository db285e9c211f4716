"""The pool: everything that ever arrived, in shards, and everything that ever left or came back, in a ledger.

Both only grow. A round joins its arrivals as one new shard and, after pruning, appends one ledger part; nothing is
rewritten, so any past pool is a prefix of the present one, and restoring a sample is appending too: the last entry of a
sample in the ledger says whether it is in the pool. Sample ids are given in order of arrival, from 0, and never given
twice: a sample's id is its place.

Words and pictures stay where they are until somebody asks for them (`fetch`, `windows`); what is held in memory is the
index, a few numbers and names a sample.
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

INDEX = ["sample_id", "round", "source", "skill"]
REMOVED, RESTORED = "removed", "restored"
LEDGER = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("round", pa.int32()),
        ("action", pa.string()),  # removed or restored
        ("cluster", pa.int32()),  # in which it was removed
        ("duplicate_of", pa.int64()),  # the kept sample that it resembles; -1: none
        ("similarity", pa.float64()),  # cosine of their embeddings
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """One write-once table: a shard of arrivals or a part of the ledger, and the round that made it.

    `stored` is what its file is called and hashes to, once it has one.
    """

    round: int
    rows: ds.Dataset
    stored: Mapping[str, Any] | None = field(default=None, compare=False)

    @cached_property
    def size(self) -> int:
        """Rows of the table."""
        return int(self.stored["rows"]) if self.stored else int(self.rows.count_rows())


@dataclass(frozen=True)
class Pool:
    """Shards and ledger in order of their rounds."""

    shards: tuple[Part, ...] = ()
    ledger: tuple[Part, ...] = ()

    @cached_property
    def arrived(self) -> pd.DataFrame:
        """The index (INDEX) of every row that ever arrived, by ascending sample_id."""
        tables = [part.rows.to_table(columns=INDEX) for part in self.shards]
        empty = pa.schema([SAMPLE_SCHEMA.field(name) for name in INDEX]).empty_table()
        return pa.concat_tables([empty, *tables]).to_pandas()

    @cached_property
    def record(self) -> pd.DataFrame:
        """Every removal and restoration (schema LEDGER), in the order in which they were made."""
        return pa.concat_tables([LEDGER.empty_table(), *[part.rows.to_table() for part in self.ledger]]).to_pandas()

    @cached_property
    def present(self) -> Bool[np.ndarray, " arrived"]:
        """Whether each row that ever arrived is in the pool now."""
        present = np.ones(self.size, dtype=bool)
        for part in self.ledger:
            entries = part.rows.to_table(columns=["sample_id", "action"])
            ids = entries["sample_id"].to_numpy()
            present[ids] = pc.equal(entries["action"], RESTORED).to_numpy()
        return present

    @cached_property
    def index(self) -> pd.DataFrame:
        """The index of the rows that are in the pool now, by ascending sample_id."""
        return self.arrived[self.present].reset_index(drop=True)

    @property
    def size(self) -> int:
        """Rows that ever arrived."""
        return sum(part.size for part in self.shards)

    def __len__(self) -> int:
        return int(self.present.sum())

    def fetch(
        self, sample_ids: Sequence[int] | Int[np.ndarray, " n"], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Whole rows (or some columns) of samples, in or out of the pool, in the order of `sample_ids`."""
        ids = np.asarray(sample_ids, dtype=np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < self.size):
            raise ValueError(f"there is no sample {ids[(ids < 0) | (ids >= self.size)][0]}; ids run to {self.size - 1}")
        firsts = np.cumsum([0, *[part.size for part in self.shards]])
        shard = np.searchsorted(firsts, ids, side="right") - 1
        schema = SAMPLE_SCHEMA if columns is None else pa.schema([SAMPLE_SCHEMA.field(name) for name in columns])
        found, places = [schema.empty_table()], []
        for number in np.unique(shard):
            mine = np.flatnonzero(shard == number)
            found.append(parquet.take(self.shards[number].rows, ids[mine] - firsts[number], schema.names))
            places.append(mine)
        back = np.argsort(np.concatenate(places)) if places else np.empty(0, np.int64)
        return pa.concat_tables(found).take(pa.array(back))

    def rows(self, sample_ids: Sequence[int] | Int[np.ndarray, " n"] | None = None) -> pd.DataFrame:
        """Whole rows of samples, or of all that are in the pool now, in memory."""
        ids = np.flatnonzero(self.present) if sample_ids is None else sample_ids
        return self.fetch(ids).to_pandas()

    def windows(self, size: int) -> Iterator[pd.DataFrame]:
        """Whole rows of the pool as it is now, by ascending sample_id, `size` at a time, each shard read once."""
        first = 0
        waiting: list[pa.Table] = []
        held = 0
        for part in self.shards:
            for batch in part.rows.to_batches(batch_readahead=parquet.READAHEAD, fragment_readahead=1):
                mask = self.present[first : first + batch.num_rows]
                first += batch.num_rows
                waiting.append(pa.table(batch).filter(pa.array(mask)))
                held += len(waiting[-1])
                while held >= size:
                    merged = pa.concat_tables(waiting)
                    yield merged.slice(0, size).to_pandas()
                    waiting, held = [merged.slice(size)], held - size
        if held:
            yield pa.concat_tables(waiting).to_pandas()


def start_pool() -> Pool:
    """The pool before anything has arrived."""
    return Pool()


def join_pool(kept: Pool, arrivals: ds.Dataset, round: int) -> Pool:
    """Arrivals (schema SAMPLE_SCHEMA) join the survivors as a shard of their own.

    `ValueError` when a source_id arrives that its source has brought before: an id names one sample for ever.
    """
    ids = arrivals.to_table(columns=["sample_id"])["sample_id"].to_numpy()
    assert (ids == np.arange(kept.size, kept.size + len(ids))).all(), "ids are places in the order of arrival"
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
    """Every source_id that a source has ever brought."""
    brought = [part.rows.to_table(columns=["source_id"], filter=ds.field("source") == source) for part in pool.shards]
    return pa.concat_arrays([pa.array([], pa.string()), *[c for t in brought for c in t["source_id"].chunks]])


def remove(pool: Pool, removals: pd.DataFrame, round: int) -> Pool:
    """The pool without the samples of `removals`, which go on record in the ledger with what `removals` says of them.

    `ValueError` when a removal names a sample that is not in the pool.
    """
    return _append(pool, removals, round, REMOVED)


def restore(pool: Pool, sample_ids: Sequence[int] | Int[np.ndarray, " n"], round: int, reason: str) -> Pool:
    """The pool with removed samples in it again, which goes on record too.

    `ValueError` when a sample never arrived or is in the pool.
    """
    return _append(
        pool, pd.DataFrame({"sample_id": np.asarray(sample_ids, np.int64), "reason": reason}), round, RESTORED
    )


def pruned_in(pool: Pool, round: int) -> Int[np.ndarray, " n"]:
    """The samples that a round removed and that have not come back."""
    record = pool.record
    mine = record[(record["round"] == round) & (record["action"] == REMOVED)]["sample_id"].to_numpy()
    return np.unique(mine[~pool.present[mine]])


def index(pool: Pool) -> pd.DataFrame:
    """One small row a sample of the pool, without its words: sample_id, round, source, skill."""
    return pool.index


def _append(pool: Pool, entries: pd.DataFrame, round: int, action: str) -> Pool:
    ids = entries["sample_id"].to_numpy(np.int64)
    known = (ids >= 0) & (ids < pool.size)
    wrong = ~known
    wrong[known] = pool.present[ids[known]] != (action == REMOVED)
    if wrong.any():
        where = "not in the pool" if action == REMOVED else "in the pool already, or never arrived"
        raise ValueError(f"what is {action} must not be samples that are {where}: {ids[wrong].tolist()[:5]}")
    if len(np.unique(ids)) != len(ids):
        raise ValueError(f"a sample is {action} twice at once")
    if entries.empty:
        return pool
    part = Part(round, parquet.in_memory(entries.assign(round=round, action=action), LEDGER))
    return Pool(pool.shards, (*pool.ledger, part))

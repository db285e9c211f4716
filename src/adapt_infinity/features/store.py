"""The rows of a stream, and the features of a round, on disk.

    <stream>/probe/<fingerprint>/….safetensors     shards of a probe that is running (see shards.py)
    <stream>/round_<t>/features/<version>/features/
        gradients.npy     float16 [rows, dim]     rows of unit length, in pool order
        embeddings.npy    float16 [rows, width]   rows of unit length
        keys.npy          uint8   [rows, 16]      the content that each row belongs to
        scores.parquet    one row per sample; `reread_tokens` counts the tokens of its second reading, without images;
                          `stale` is True for rows that an older adapter made
        spec.json         what a row is: the identity of model and spec
        record.json       what the probe did: rows read, tokens, seconds, drift

The shards are deleted once a version of the features is on disk. Later runs find the rows in that version.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float, Int

from adapt_infinity.features.shards import (
    STORED_DTYPE,
    RowIndex,
    ShardRows,
    clear_unfinished,
    concatenate_rows,
    key_bytes,
    keys_from,
    read_shard,
    stored_keys,
)
from adapt_infinity.features.spec import Spec

BLOCK = 4096  # rows in memory at a time
TOKEN_COUNTS = ("tokens", "answer_tokens", "reread_tokens")  # columns of whole numbers


@dataclass(frozen=True)
class Identity:
    """What decides the numbers of a row, apart from the sample: the model and the spec."""

    base: str  # digest of the checkpoint
    adapter: str  # digest of the LoRA weights on it
    arithmetic: str  # kind of device and number format; see `checkpoint.arithmetic`
    spec: Spec

    @property
    def fingerprint(self) -> str:
        """Rows of equal content and equal fingerprint have equal numbers."""
        return "-".join((self.base, self.adapter, self.arithmetic, self.spec.digest()))


@dataclass(frozen=True)
class Features:
    """The features of a pool, as they are read from disk: one row per sample, in pool order; memory-mapped arrays."""

    sample_ids: Int[np.ndarray, " rows"]
    gradients: Float[np.ndarray, "rows dim"]
    embeddings: Float[np.ndarray, "rows width"]
    scores: pd.DataFrame
    spec: Mapping[str, Any]  # spec.json
    record: Mapping[str, Any]  # record.json


@dataclass(frozen=True)
class Table:
    """Rows on disk, which are opened when they are needed: a shard, or a version of the features."""

    path: Path
    fingerprint: str
    keys: pa.Array
    row_indices: Int[np.ndarray, " keys"] | None = None  # of the keys in the file; None = all rows, in order

    def rows(self) -> ShardRows:
        """All rows of the file; those of the keys are at `row_indices`."""
        return _open_rows(self.path, self.fingerprint)


@dataclass(frozen=True)
class FeatureStream:
    """What the probe gives to the dataset that saves it: the tables in which the rows of the pool are."""

    sample_ids: Int[np.ndarray, " rows"]
    keys: pa.Array
    tables: Sequence[Table]
    identity: Identity
    round: int
    record: Mapping[str, Any]

    def blocks(self) -> Iterator[tuple[slice, ShardRows, np.ndarray]]:
        """Slice of the pool, its rows, and which of them are stale (made by another adapter), block by block."""
        index = RowIndex([table.keys for table in self.tables])
        for start in range(0, len(self.keys), BLOCK):
            block = slice(start, min(start + BLOCK, len(self.keys)))
            keys = self.keys.slice(start, block.stop - start)
            yield block, *gather(self.tables, index, keys, self.identity.fingerprint)

    def discard_shards(self) -> None:
        """Delete the shards, after the rows were saved elsewhere."""
        for table in self.tables:
            if table.path.is_file():
                table.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class ProbeStore:
    """All rows that the probe of a stream has made so far."""

    folder: Path  # with one folder of shards per fingerprint
    versions: tuple[Path, ...]  # folders of features, oldest first

    def shards(self, fingerprint: str) -> Path:
        """The folder of the shards of a fingerprint."""
        return self.folder / fingerprint

    def delete_shards(self, fingerprint: str) -> None:
        """Delete the shards of a fingerprint."""
        for path in self.shards(fingerprint).glob("*.safetensors"):
            path.unlink()

    def tables(self, fingerprint: str) -> list[Table]:
        """All tables of rows with exactly this fingerprint. Deletes damaged shards: their rows are computed again."""
        clear_unfinished(self.shards(fingerprint))
        found = []
        for path in self.versions:
            if _spec(path).get("fingerprint") == fingerprint:
                fresh = np.flatnonzero(~pd.read_parquet(path / "scores.parquet", columns=["stale"])["stale"].to_numpy())
                found.append(Table(path, fingerprint, _keys(path).take(pa.array(fresh)), fresh))
        for path in sorted(self.shards(fingerprint).glob("*.safetensors")):
            keys = stored_keys(path, fingerprint)
            if keys is None:
                path.unlink()
            else:
                found.append(Table(path, fingerprint, keys))
        return found

    def newest_with_other_adapter(self, identity: Identity, round: int) -> Table | None:
        """The newest features up to this round that differ in nothing but the adapter; None when there are none."""
        required = {"base": identity.base, "arithmetic": identity.arithmetic, "spec": _as_json(identity.spec)}
        for path in reversed(self.versions):
            found = _spec(path)
            matches = all(found.get(name) == value for name, value in required.items())
            if matches and found["adapter"] != identity.adapter and found["round"] <= round:
                return Table(path, found["fingerprint"], _keys(path))
        return None


def gather(tables: Sequence[Table], index: RowIndex, keys: pa.Array, fingerprint: str) -> tuple[ShardRows, np.ndarray]:
    """The rows of `keys`, in their order, from the tables of `index`; and for each row, whether it is stale.

    A row is stale when its table has another fingerprint than `fingerprint`.
    """
    table_of, row_of = index.find(keys)
    assert (table_of >= 0).all(), "every row has been read"
    collected, positions, stale = [], [], np.zeros(len(keys), bool)
    for number in np.unique(table_of):
        here = np.flatnonzero(table_of == number)
        table, rows = tables[number], tables[number].rows()
        taken = row_of[here] if table.row_indices is None else table.row_indices[row_of[here]]
        scores = {name: values[taken] for name, values in rows.scores.items()}
        mine = keys.take(pa.array(here))
        collected.append(ShardRows(mine, rows.features[taken], rows.embeddings[taken], scores))
        positions.append(here)
        stale[here] = table.fingerprint != fingerprint
    order, joined = np.argsort(np.concatenate(positions)), concatenate_rows(keys, collected)
    scores = {name: values[order] for name, values in joined.scores.items()}
    return ShardRows(keys, joined.features[order], joined.embeddings[order], scores), stale


def write_features(path: Path, stream: FeatureStream) -> None:
    """Write the features of a probe into a new folder, block by block."""
    path.mkdir()
    arrays: dict[str, np.memmap] = {}
    scores = []
    count = len(stream.sample_ids)
    for block, rows, stale in stream.blocks():
        for name, values in (("gradients", rows.features), ("embeddings", rows.embeddings)):
            if name not in arrays:
                shape = (count, values.shape[1])
                arrays[name] = np.lib.format.open_memmap(
                    path / f"{name}.npy", mode="w+", dtype=STORED_DTYPE, shape=shape
                )
            arrays[name][block] = values
        scores.append(pd.DataFrame({"sample_id": stream.sample_ids[block], **rows.scores, "stale": stale}))
    for array in arrays.values():
        array.flush()
    np.save(path / "keys.npy", key_bytes(stream.keys))
    table = pd.concat(scores, ignore_index=True).astype(dict.fromkeys(TOKEN_COUNTS, np.int32))
    table.to_parquet(path / "scores.parquet", index=False)
    identity = stream.identity
    spec = {
        "fingerprint": identity.fingerprint,
        "base": identity.base,
        "adapter": identity.adapter,
        "arithmetic": identity.arithmetic,
        "spec": _as_json(identity.spec),
        "round": stream.round,
    }
    (path / "spec.json").write_text(json.dumps(spec, indent=1, sort_keys=True))
    (path / "record.json").write_text(json.dumps(dict(stream.record), indent=1, sort_keys=True))


def read_features(path: Path) -> Features:
    """The features in a folder. Their arrays are memory-mapped and not read."""
    scores = pd.read_parquet(path / "scores.parquet")
    return Features(
        sample_ids=scores["sample_id"].to_numpy(np.int64),
        gradients=np.load(path / "gradients.npy", mmap_mode="r"),
        embeddings=np.load(path / "embeddings.npy", mmap_mode="r"),
        scores=scores,
        spec=_spec(path),
        record=json.loads((path / "record.json").read_text()),
    )


@lru_cache(maxsize=8)
def _open_rows(path: Path, fingerprint: str) -> ShardRows:
    if path.is_file():
        return read_shard(path, fingerprint)
    features = read_features(path)
    columns = [name for name in features.scores.columns if name not in ("sample_id", "stale")]
    scores = {name: features.scores[name].to_numpy(np.float64) for name in columns}
    return ShardRows(_keys(path), features.gradients, features.embeddings, scores)


def _keys(path: Path) -> pa.Array:
    return keys_from(np.load(path / "keys.npy"))


def _spec(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "spec.json").read_text())
    return found


def _as_json(spec: Spec) -> dict[str, Any]:
    """The spec as it looks when it is read from JSON: tuples are lists."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return found

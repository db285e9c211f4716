"""Where rows are kept, and how a round's features look on disk.

    <stream>/probe/<fingerprint>/….safetensors     shards of a probe under way (see shards.py)
    <stream>/round_<t>/features/<version>/features/
        gradients.npy     float16 [rows, dim]     unit rows, in pool order
        embeddings.npy    float16 [rows, width]   unit rows
        keys.npy          uint8   [rows, 16]      which content each row is of
        scores.parquet    one row a sample; `reread_tokens` are those of its second reading, without pictures; `stale`
                          marks rows that an older adapter read
        spec.json         what a row is: the identity of model and spec
        record.json       what it cost: rows read and taken over, tokens, seconds, drift

Once a version of the features is on disk its shards are deleted: the version itself is where later runs find the rows.
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
    STORED,
    RowIndex,
    ShardRows,
    clear_unfinished,
    key_bytes,
    keys_from,
    read_shard,
    stored_keys,
)
from adapt_infinity.features.spec import Spec

BLOCK = 4096  # rows gathered at a time
COUNTS = ("tokens", "answer_tokens", "reread_tokens")  # scores that are whole numbers


@dataclass(frozen=True)
class Identity:
    """Which model reads, and what a row is."""

    base: str  # digest of the checkpoint
    adapter: str  # digest of the LoRA weights on it
    arithmetic: str  # kind of device and number format
    spec: Spec

    @property
    def fingerprint(self) -> str:
        """Rows of equal content and equal fingerprint are equal."""
        return "-".join((self.base, self.adapter, self.arithmetic, self.spec.digest()))


@dataclass(frozen=True)
class Features:
    """The reading of a pool: rows in pool order (memory-mapped), scores, what the rows are and what they cost."""

    sample_ids: Int[np.ndarray, " rows"]
    gradients: Float[np.ndarray, "rows dim"]
    embeddings: Float[np.ndarray, "rows width"]
    scores: pd.DataFrame
    spec: Mapping[str, Any]
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows on disk, opened when they are asked for: a shard, or a version of the features."""

    path: Path
    fingerprint: str
    keys: pa.Array
    numbers: Int[np.ndarray, " keys"] | None = None  # which rows of the file the keys are; None = all, in order

    def rows(self) -> ShardRows:
        """The file's rows; for the keys, take `numbers` of them."""
        return _opened(self.path, self.fingerprint)


@dataclass(frozen=True)
class FeatureStream:
    """What the probe hands to the dataset: which tables the rows of the pool are in."""

    sample_ids: Int[np.ndarray, " rows"]
    keys: pa.Array
    tables: Sequence[Table]
    identity: Identity
    round: int
    record: Mapping[str, Any]

    def blocks(self) -> Iterator[tuple[slice, ShardRows, np.ndarray]]:
        """The rows in pool order, block by block, with a mark on those that another adapter read."""
        places = RowIndex([table.keys for table in self.tables])
        for start in range(0, len(self.keys), BLOCK):
            here = slice(start, min(start + BLOCK, len(self.keys)))
            keys = self.keys.slice(start, here.stop - start)
            yield here, *gather(self.tables, places, keys, self.identity.fingerprint)

    def discard_shards(self) -> None:
        """Delete the shards, once the rows have another home."""
        for table in self.tables:
            if table.path.is_file():
                table.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class ProbeStore:
    """What a stream has read so far."""

    folder: Path  # of the shards
    versions: tuple[Path, ...]  # of the features, oldest first

    def shards(self, fingerprint: str) -> Path:
        """Where the shards of a fingerprint are written."""
        return self.folder / fingerprint

    def delete_shards(self, fingerprint: str) -> None:
        """Delete the shards of a fingerprint."""
        for path in self.shards(fingerprint).glob("*.safetensors"):
            path.unlink()

    def tables(self, fingerprint: str) -> list[Table]:
        """Every row of this very fingerprint."""
        clear_unfinished(self.shards(fingerprint))
        found = []
        for path in self.versions:
            if _spec(path).get("fingerprint") == fingerprint:
                fresh = np.flatnonzero(~pd.read_parquet(path / "scores.parquet", columns=["stale"])["stale"].to_numpy())
                found.append(Table(path, fingerprint, _keys(path).take(pa.array(fresh)), fresh))
        for path in sorted(self.shards(fingerprint).glob("*.safetensors")):
            keys = stored_keys(path, fingerprint)
            if keys is None:
                path.unlink()  # damaged: its rows are read again
            else:
                found.append(Table(path, fingerprint, keys))
        return found

    def newest_with_other_adapter(self, identity: Identity, round: int) -> Table | None:
        """The newest features of the same base, spec and arithmetic under another adapter, up to this round."""
        same = {"base": identity.base, "arithmetic": identity.arithmetic, "spec": _plain(identity.spec)}
        for path in reversed(self.versions):
            made = _spec(path)
            alike = all(made.get(name) == value for name, value in same.items())
            if alike and made["adapter"] != identity.adapter and made["round"] <= round:
                return Table(path, made["fingerprint"], _keys(path))
        return None


def gather(tables: Sequence[Table], places: RowIndex, keys: pa.Array, fingerprint: str) -> tuple[ShardRows, np.ndarray]:
    """The rows of `keys`, in their order, from whichever tables they are in; and which are of another fingerprint."""
    number, row = places.find(keys)
    assert (number >= 0).all(), "every row has been read"
    parts, where, stale = [], [], np.zeros(len(keys), bool)
    for which in np.unique(number):
        mine = np.flatnonzero(number == which)
        table, rows = tables[which], tables[which].rows()
        taken = row[mine] if table.numbers is None else table.numbers[row[mine]]
        scores = {name: values[taken] for name, values in rows.scores.items()}
        parts.append((rows.features[taken], rows.embeddings[taken], scores))
        where.append(mine)
        stale[mine] = table.fingerprint != fingerprint
    back = np.argsort(np.concatenate(where)) if where else np.empty(0, np.int64)
    names = list(parts[0][2]) if parts else []
    return ShardRows(
        keys,
        np.concatenate([part[0] for part in parts])[back],
        np.concatenate([part[1] for part in parts])[back],
        {name: np.concatenate([part[2][name] for part in parts])[back] for name in names},
    ), stale


def write_features(path: Path, stream: FeatureStream) -> None:
    """Gather a reading into a folder, block by block."""
    path.mkdir()
    arrays: dict[str, np.memmap] = {}
    scores = []
    count = len(stream.sample_ids)
    for here, rows, stale in stream.blocks():
        for name, part in (("gradients", rows.features), ("embeddings", rows.embeddings)):
            if name not in arrays:
                shape = (count, part.shape[1])
                arrays[name] = np.lib.format.open_memmap(path / f"{name}.npy", mode="w+", dtype=STORED, shape=shape)
            arrays[name][here] = part
        scores.append(pd.DataFrame({"sample_id": stream.sample_ids[here], **rows.scores, "stale": stale}))
    for array in arrays.values():
        array.flush()
    np.save(path / "keys.npy", key_bytes(stream.keys))
    table = pd.concat(scores, ignore_index=True).astype(dict.fromkeys(COUNTS, np.int32))
    table.to_parquet(path / "scores.parquet", index=False)
    identity = stream.identity
    spec = {
        "fingerprint": identity.fingerprint,
        "base": identity.base,
        "adapter": identity.adapter,
        "arithmetic": identity.arithmetic,
        "spec": _plain(identity.spec),
        "round": stream.round,
    }
    (path / "spec.json").write_text(json.dumps(spec, indent=1, sort_keys=True))
    (path / "record.json").write_text(json.dumps(dict(stream.record), indent=1, sort_keys=True))


def read_features(path: Path) -> Features:
    """A reading as it was saved; the arrays are mapped, not read."""
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
def _opened(path: Path, fingerprint: str) -> ShardRows:
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


def _plain(spec: Spec) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return plain

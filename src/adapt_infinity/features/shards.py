"""Shards: finished feature rows on disk, so that no row is computed twice.

    <store>/<fingerprint>/<hash of its keys>.safetensors
        keys        uint8   [rows, 16]      which sample: the first half of its content hash
        features    float16 [rows, dim]     rows of unit length
        embeddings  float16 [rows, width]   rows of unit length
        score.*     float64 [rows]

The fingerprint identifies the model (base and adapter, to the byte) and the spec. It is also stored in the file, and
checked when the file is read. A shard is written under another name and then renamed, so that it is never there in
part. The same rows always give the same bytes.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

STORED_DTYPE = np.float16  # of rows of unit length: its 11 bits are much finer than the standard deviation of a sketch
KEY_TYPE = pa.binary(16)


@dataclass(frozen=True)
class ShardRows:
    """Feature rows and scores of some samples; the arrays may be memory maps."""

    keys: pa.Array
    features: Float[np.ndarray, "rows dim"]
    embeddings: Float[np.ndarray, "rows width"]
    scores: Mapping[str, Float[np.ndarray, " rows"]]

    def __len__(self) -> int:
        return len(self.keys)


def keys_of(content_hashes: pa.Array | pa.ChunkedArray | Sequence[str]) -> pa.Array:
    """The keys of samples, from their content hashes in hexadecimal."""
    listed = content_hashes if isinstance(content_hashes, Sequence) else content_hashes.to_pylist()
    return pa.array([bytes.fromhex(digest[:32]) for digest in listed], KEY_TYPE)


def key_bytes(keys: pa.Array) -> UInt8[np.ndarray, "rows 16"]:
    """Keys as an array of bytes; `keys_from` is the inverse."""
    return np.frombuffer(b"".join(keys.to_pylist()), np.uint8).reshape(-1, 16)


def keys_from(array: UInt8[np.ndarray, "rows 16"]) -> pa.Array:
    """Keys from an array of bytes; `key_bytes` is the inverse."""
    buffer = pa.py_buffer(np.ascontiguousarray(array).tobytes())
    return pa.Array.from_buffers(KEY_TYPE, len(array), [None, buffer])


def shard_name(keys: pa.Array) -> str:
    """The file name of a shard, which depends on its samples and their order."""
    return hashlib.blake2b(b"".join(keys.to_pylist()), digest_size=12).hexdigest() + ".safetensors"


def write_shard(path: Path, rows: ShardRows, fingerprint: str) -> None:
    """Write a shard and flush it to the disk; under its name, it is there in full or not at all."""
    tensors = {
        "keys": key_bytes(rows.keys),
        "features": rows.features,
        "embeddings": rows.embeddings,
        **{f"score.{name}": np.asarray(values, np.float64) for name, values in rows.scores.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(tensors, unfinished, metadata={"fingerprint": fingerprint})
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(unfinished, path)


def read_shard(path: Path, fingerprint: str) -> ShardRows:
    """The rows of a shard. `ValueError` when it is damaged or was made by another model or spec."""
    try:
        with safe_open(path, framework="np") as shard:
            _require_fingerprint(path, shard.metadata(), fingerprint)
            tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"probe shard {path.name} is damaged ({error}); delete it and run again") from error
    scores = {name.removeprefix("score."): tensors[name] for name in sorted(tensors) if name.startswith("score.")}
    return ShardRows(keys_from(tensors["keys"]), tensors["features"], tensors["embeddings"], scores)


def stored_keys(path: Path, fingerprint: str) -> pa.Array | None:
    """The keys of a shard, without reading its rows; None when it is damaged or has another fingerprint."""
    try:
        with safe_open(path, framework="np") as shard:
            _require_fingerprint(path, shard.metadata(), fingerprint)
            return keys_from(shard.get_tensor("keys"))
    except (SafetensorError, ValueError):
        return None


def concatenate_rows(keys: pa.Array, parts: Sequence[ShardRows]) -> ShardRows:
    """The rows of at least one part, one after another, under these keys. The parts have the same scores."""
    return ShardRows(
        keys,
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        {name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
    )


class RowIndex:
    """In which of several tables, and in which of its rows, each key is. A key may be in several: the first counts."""

    def __init__(self, tables: Iterable[pa.Array]) -> None:
        tables = list(tables)
        self._keys = pa.concat_arrays([pa.array([], KEY_TYPE), *tables])
        self._first_rows = np.cumsum([0, *[len(keys) for keys in tables]])

    def find(self, keys: pa.Array) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """For each key, the index of the table and of the row in it; −1 and −1 for a key that is in none."""
        found = pc.fill_null(pc.index_in(keys, value_set=self._keys), -1).to_numpy().astype(np.int64)
        table = np.searchsorted(self._first_rows, found, side="right") - 1
        absent = found < 0
        table[absent] = -1
        row = np.where(absent, -1, found - self._first_rows[table])
        return table, row


def clear_unfinished(folder: Path) -> None:
    """Delete the unfinished files that killed processes have left in a folder of shards."""
    for unfinished in folder.glob(".*.tmp"):
        unfinished.unlink(missing_ok=True)


def _require_fingerprint(path: Path, metadata: Mapping[str, Any] | None, fingerprint: str) -> None:
    found = (metadata or {}).get("fingerprint")
    if found != fingerprint:
        raise ValueError(f"probe shard {path.name} was made by {found}, not by {fingerprint}; delete it and run again")

"""Shards: finished rows on disk, so that no row is computed twice.

    <store>/<fingerprint>/<hash of its keys>.safetensors
        keys        uint8   [rows, 16]      which sample: the first half of its content hash
        features    float16 [rows, dim]     unit rows
        embeddings  float16 [rows, width]   unit rows
        score.*     float64 [rows]

The fingerprint names the model (base and adapter, to the byte) and the spec; it is stored in the file, too, and checked
when the file is read. A shard is written under another name and renamed: it is there whole, or not at all. The same
rows always give the same bytes.
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

STORED = np.float16  # unit rows: 11 bits are far finer than the sketch's own spread
KEY = pa.binary(16)


@dataclass(frozen=True)
class ShardRows:
    """What the probe knows of some samples; arrays may be memory maps."""

    keys: pa.Array
    features: Float[np.ndarray, "rows dim"]
    embeddings: Float[np.ndarray, "rows width"]
    scores: Mapping[str, Float[np.ndarray, " rows"]]

    def __len__(self) -> int:
        return len(self.keys)


def keys_of(content_hashes: pa.Array | pa.ChunkedArray | Sequence[str]) -> pa.Array:
    """The keys of samples, from their content hashes (hexadecimal)."""
    listed = content_hashes if isinstance(content_hashes, Sequence) else content_hashes.to_pylist()
    return pa.array([bytes.fromhex(digest[:32]) for digest in listed], KEY)


def key_bytes(keys: pa.Array) -> UInt8[np.ndarray, "rows 16"]:
    """Keys as an array of bytes."""
    return np.frombuffer(b"".join(keys.to_pylist()), np.uint8).reshape(-1, 16)


def keys_from(array: UInt8[np.ndarray, "rows 16"]) -> pa.Array:
    """What `key_bytes` made."""
    buffer = pa.py_buffer(np.ascontiguousarray(array).tobytes())
    return pa.Array.from_buffers(KEY, len(array), [None, buffer])


def shard_name(keys: pa.Array) -> str:
    """The file name of a shard, from which samples it holds and in which order."""
    return hashlib.blake2b(b"".join(keys.to_pylist()), digest_size=12).hexdigest() + ".safetensors"


def write_shard(path: Path, rows: ShardRows, fingerprint: str) -> None:
    """Put a shard into its place, durably."""
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
    """The rows of a shard; `ValueError` when it is damaged or was made by another model or spec."""
    try:
        with safe_open(path, framework="np") as shard:
            _check(path, shard.metadata(), fingerprint)
            tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"probe shard {path.name} is damaged ({error}); delete it and run again") from error
    scores = {name.removeprefix("score."): tensors[name] for name in sorted(tensors) if name.startswith("score.")}
    return ShardRows(keys_from(tensors["keys"]), tensors["features"], tensors["embeddings"], scores)


def stored_keys(path: Path, fingerprint: str) -> pa.Array | None:
    """The keys of a shard without its rows; None when it is none of ours (damaged, or of another fingerprint)."""
    try:
        with safe_open(path, framework="np") as shard:
            _check(path, shard.metadata(), fingerprint)
            return keys_from(shard.get_tensor("keys"))
    except (SafetensorError, ValueError):
        return None


class RowIndex:
    """Where the row of each key is, over several tables of rows; of a key that is in several the first counts."""

    def __init__(self, tables: Iterable[pa.Array]) -> None:
        listed = list(tables)
        self._keys = pa.concat_arrays([pa.array([], KEY), *listed])
        self._firsts = np.cumsum([0, *[len(keys) for keys in listed]])

    def find(self, keys: pa.Array) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Number of the table and of the row in it, for each key; −1 and −1 where it is in none."""
        found = pc.fill_null(pc.index_in(keys, value_set=self._keys), -1).to_numpy().astype(np.int64)
        table = np.searchsorted(self._firsts, found, side="right") - 1
        absent = found < 0
        table[absent] = -1
        row = np.where(absent, -1, found - self._firsts[table])
        return table, row


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes left in a folder of shards."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def _check(path: Path, metadata: Mapping[str, Any] | None, fingerprint: str) -> None:
    made = (metadata or {}).get("fingerprint")
    if made != fingerprint:
        raise ValueError(f"probe shard {path.name} was made by {made}, not by {fingerprint}")

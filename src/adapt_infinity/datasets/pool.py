"""The pool on disk: Parquet parts that are written once, in one folder per stream, and a small JSON file per version.

    data/runs/<stream>/pool/arrivals-000001-3f2a….parquet   a shard, named after its round and the hash of its bytes
    data/runs/<stream>/pool/removals-000001-99ab….parquet   a part of the ledger of removals
    data/runs/<stream>/round_1/kept_pool.json/<version>/kept_pool.json   {"shards": […], "ledger": […]}

A version of the pool is such a JSON file. All versions share the parts, which are never rewritten. So a pool of a
hundred rounds takes as much space as all arrivals together, and every past version can be loaded.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kedro_datasets._typing import TablePreview

from adapt_infinity.data import parquet
from adapt_infinity.datasets.atomic import AtomicDataset, put_in_place, temporary_path
from adapt_infinity.datasets.tables import preview_rows
from adapt_infinity.kedro_internals import load_path
from adapt_infinity.pool.pool import Part, Pool

ENTRIES = ("pool.json", "kept_pool.json")  # the catalog's files that hold versions of the pool


class PoolDataset(AtomicDataset):
    """A version of the `Pool`. Its parts are in the folder `pool` beside the folders of the rounds."""

    @property
    def store(self) -> Path:
        """The folder of the parts."""
        return Path(self._filepath).parent.parent / "pool"

    def read(self, path: Path) -> Pool:
        version = json.loads(self._found(path).read_text())
        return Pool(
            tuple(self._read_part(entry) for entry in version["shards"]),
            tuple(self._read_part(entry) for entry in version["ledger"]),
        )

    def write(self, data: Pool, path: Path) -> None:
        version = {
            "shards": [self._write_part("arrivals", part) for part in data.shards],
            "ledger": [self._write_part("removals", part) for part in data.ledger],
            "rows": len(data),
        }
        path.write_text(json.dumps(version, indent=1))

    def preview(self, nrows: int = 8) -> TablePreview:
        pool = self.load()
        return preview_rows(pool.rows(pool.index["sample_id"].head(nrows).to_numpy()), nrows)

    def _exists(self) -> bool:
        return self._found(load_path(self)).exists()

    def _found(self, path: Path) -> Path:
        """The version's file: `path`, or that of another round with this version (`--load-versions=pool:VERSION`)."""
        if path.exists() or self._version is None or not self._version.load:
            return path
        names = (path.name, *ENTRIES)
        rounds = self.store.parent
        return next((file for name in names for file in rounds.glob(f"*/{name}/{self._version.load}/{name}")), path)

    def _write_part(self, kind: str, part: Part) -> dict[str, Any]:
        if part.stored is not None and (self.store / part.stored["file"]).is_file():
            return dict(part.stored)
        with temporary_path(self.store / f"{kind}-{part.round:06d}") as temporary:
            _write_rows(part, temporary)
            digest = sha256(temporary)
            name = f"{kind}-{part.round:06d}-{digest[:16]}.parquet"
            size = temporary.stat().st_size
            if not (self.store / name).exists():
                put_in_place(temporary, self.store / name)
        return {"file": name, "sha256": digest, "bytes": size, "round": part.round, "rows": part.size}

    def _read_part(self, entry: dict[str, Any]) -> Part:
        path = self.store / entry["file"]
        fault = quick_fault(path, entry)
        if fault:
            raise ValueError(f"pool part {fault}; run `kedro pool verify` to check all parts")
        return Part(entry["round"], parquet.open_table(path), entry)


def faults(store: Path, version: dict[str, Any]) -> Iterator[str]:
    """One message for each part of a pool version that is missing or whose bytes have changed."""
    for entry in (*version["shards"], *version["ledger"]):
        fault = quick_fault(store / entry["file"], entry)
        if not fault and sha256(store / entry["file"]) != entry["sha256"]:
            fault = f"{entry['file']} has been altered: its hash is not the recorded one"
        if fault:
            yield fault


def quick_fault(path: Path, entry: dict[str, Any]) -> str:
    """What is wrong with a part, by its existence and size only; "" if nothing is."""
    if not path.is_file():
        return f"{entry['file']} is missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{entry['file']} has been altered: {path.stat().st_size} bytes instead of {entry['bytes']}"
    return ""


def sha256(path: Path) -> str:
    """The SHA-256 hash of a file, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_rows(part: Part, path: Path) -> None:
    """Write the part's table to `path`; a table that is one file on disk already is linked or copied."""
    written = getattr(part.rows, "files", [])
    if len(written) != 1:
        parquet.write(path, (part.rows.to_table(),))
        return
    try:
        os.link(written[0], path)
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(written[0], path)

"""The pool on disk: write-once Parquet parts in a store of the stream's own, and a small JSON that names them.

    data/runs/<stream>/pool/arrivals-000001-3f2a….parquet   a shard, named by its round and the hash of its bytes
    data/runs/<stream>/pool/removals-000001-99ab….parquet   a part of the ledger
    data/runs/<stream>/round_1/kept_pool.json/<version>/kept_pool.json   {"shards": […], "ledger": […]}

A version of the pool is that JSON. Parts are shared by all versions and never rewritten, so a pool of a hundred rounds
costs the sum of its arrivals, and any past pool can be loaded: by its version alone, from whichever round's folder.
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
from adapt_infinity.datasets.atomic import AtomicDataset, put, unfinished
from adapt_infinity.datasets.tables import preview_rows
from adapt_infinity.kedro_internals import load_path
from adapt_infinity.pool.pool import Part, Pool

ENTRIES = ("pool.json", "kept_pool.json")  # files that are versions of a pool


class PoolDataset(AtomicDataset):
    """A `Pool`; the store lies beside the folders of the rounds."""

    @property
    def store(self) -> Path:
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
        """The version's file here, or, for a version of another round, there: `--load-versions=pool:VERSION`."""
        if path.exists() or self._version is None or not self._version.load:
            return path
        names = (path.name, *ENTRIES)
        rounds = self.store.parent
        return next((there for name in names for there in rounds.glob(f"*/{name}/{self._version.load}/{name}")), path)

    def _write_part(self, kind: str, part: Part) -> dict[str, Any]:
        if part.stored is not None and (self.store / part.stored["file"]).is_file():
            return dict(part.stored)
        with unfinished(self.store / f"{kind}-{part.round:06d}") as temporary:
            _put(part, temporary)
            digest = sha256(temporary)
            name = f"{kind}-{part.round:06d}-{digest[:16]}.parquet"
            size = temporary.stat().st_size
            if not (self.store / name).exists():
                put(temporary, self.store / name)
        return {"file": name, "sha256": digest, "bytes": size, "round": part.round, "rows": part.size}

    def _read_part(self, entry: dict[str, Any]) -> Part:
        place = self.store / entry["file"]
        fault = quick_fault(place, entry)
        if fault:
            raise ValueError(f"pool part {fault}; `kedro pool verify` checks all of them")
        return Part(entry["round"], parquet.open_table(place), entry)


def faults(store: Path, version: dict[str, Any]) -> Iterator[str]:
    """Every part of a pool's version that is missing or is not what was written, byte by byte."""
    for entry in (*version["shards"], *version["ledger"]):
        fault = quick_fault(store / entry["file"], entry)
        if not fault and sha256(store / entry["file"]) != entry["sha256"]:
            fault = f"{entry['file']} has been altered: its hash is not the one on record"
        if fault:
            yield fault


def quick_fault(place: Path, entry: dict[str, Any]) -> str:
    """What is wrong with a part as far as can be seen without reading it; "" if nothing."""
    if not place.is_file():
        return f"{entry['file']} is missing"
    if place.stat().st_size != entry["bytes"]:
        return f"{entry['file']} has been altered: {place.stat().st_size} bytes instead of {entry['bytes']}"
    return ""


def sha256(path: Path) -> str:
    """Of a file, read in pieces."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _put(part: Part, path: Path) -> None:
    """The part's table as a file: a second name for the one that it is in already, or written anew."""
    written = getattr(part.rows, "files", [])
    if len(written) != 1:
        parquet.write(path, (part.rows.to_table(),))
        return
    try:
        os.link(written[0], path)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(written[0], path)

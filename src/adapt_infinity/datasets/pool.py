"""The pool on disk: write-once Parquet parts in a store of the stream's own, and a small JSON that names them.

    data/runs/<stream>/pool/arrivals-000001-3f2a….parquet   a shard, named by its round and the hash of its bytes
    data/runs/<stream>/pool/removals-000001-99ab….parquet   a part of the ledger
    data/runs/<stream>/round_1/kept_pool.json/<version>/kept_pool.json   {"shards": […], "ledger": […]}

A version of the pool is that JSON. Parts are shared by all versions and never rewritten, so a pool of a hundred rounds
costs the sum of its arrivals, and any past pool can be loaded.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from kedro_datasets._typing import TablePreview

from adapt_infinity.datasets.atomic import AtomicDataset, replacing
from adapt_infinity.datasets.tables import preview_rows
from adapt_infinity.pool import Part, Pool


class PoolDataset(AtomicDataset):
    """A `Pool`; the store lies beside the folders of the rounds."""

    @property
    def store(self) -> Path:
        return Path(self._filepath).parent.parent / "pool"

    def read(self, path: Path) -> Pool:
        version = json.loads(path.read_text())
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
        return preview_rows(self.load().rows, nrows)

    def _write_part(self, kind: str, part: Part) -> dict[str, Any]:
        buffer = io.BytesIO()
        part.rows.to_parquet(buffer, index=False)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = self.store / f"{kind}-{part.round:06d}-{digest[:16]}.parquet"
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_bytes(buffer.getvalue())
        return {"file": path.name, "sha256": digest, "round": part.round, "rows": len(part.rows)}

    def _read_part(self, entry: dict[str, Any]) -> Part:
        content = (self.store / entry["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise ValueError(f"pool part {entry['file']} has been altered: its hash is not the one on record")
        return Part(entry["round"], pd.read_parquet(io.BytesIO(content)))

"""The probe's reading on disk: a folder of two arrays, one table and the probe's spec, all in pool order.

    features/gradients.npy    float16 [rows, dim]     unit rows
    features/embeddings.npy   float16 [rows, width]   unit rows
    features/scores.parquet   one row a sample
    features/spec.json        what was probed, how

Saving drains the stream window by window into memory maps; loading maps the arrays, it does not read them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from kedro_datasets._typing import TablePreview

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.datasets.tables import preview_rows
from adapt_infinity.probe.features import STORED, Features, FeatureStream


class FeaturesDataset(AtomicDataset):
    """`FeatureStream` in, `Features` out."""

    def read(self, path: Path) -> Features:
        scores = pd.read_parquet(path / "scores.parquet")
        return Features(
            sample_ids=scores["sample_id"].to_numpy(np.int64),
            gradients=np.load(path / "gradients.npy", mmap_mode="r"),
            embeddings=np.load(path / "embeddings.npy", mmap_mode="r"),
            scores=scores,
            spec=json.loads((path / "spec.json").read_text()),
        )

    def write(self, data: FeatureStream, path: Path) -> None:
        path.mkdir()
        rows = len(data.sample_ids)
        gradients = _array(path / "gradients.npy", rows, data.dim)
        embeddings = _array(path / "embeddings.npy", rows, data.width)
        tables = []
        for block in data.blocks:
            here = slice(block.first, block.first + len(block.scores))
            gradients[here] = block.gradients
            embeddings[here] = block.embeddings
            tables.append(block.scores)
        scores = pd.concat(tables, ignore_index=True)
        assert scores["sample_id"].tolist() == data.sample_ids.tolist(), "the stream came out of pool order"
        gradients.flush()
        embeddings.flush()
        scores.to_parquet(path / "scores.parquet", index=False)
        (path / "spec.json").write_text(json.dumps(dict(data.spec), indent=1, sort_keys=True))

    def preview(self, nrows: int = 8) -> TablePreview:
        return preview_rows(self.load().scores, nrows)


def _array(path: Path, rows: int, width: int) -> np.memmap:
    return np.lib.format.open_memmap(path, mode="w+", dtype=STORED, shape=(rows, width))

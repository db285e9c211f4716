"""Tables (Parquet) and figures (Matplotlib, PNG), with atomic writes and previews for Kedro-Viz."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
from kedro_datasets._typing import ImagePreview, TablePreview

from adapt_infinity.datasets.atomic import AtomicDataset


class TableDataset(AtomicDataset):
    """A DataFrame, stored as Parquet (without kedro-datasets' class, whose package imports SQLAlchemy)."""

    def read(self, path: Path) -> pd.DataFrame:
        return pd.read_parquet(path)

    def write(self, data: pd.DataFrame, path: Path) -> None:
        data.to_parquet(path, index=False)

    def preview(self, nrows: int = 8) -> TablePreview:
        return preview_rows(self.load(), nrows)


class FigureDataset(AtomicDataset):
    """A Matplotlib figure, stored as PNG; loading returns the bytes of the file."""

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def write(self, data: Any, path: Path) -> None:
        from kedro_datasets.matplotlib import MatplotlibDataset  # matplotlib takes 0.2 s

        MatplotlibDataset(filepath=str(path), save_args={"format": "png", "dpi": 130}).save(data)

    def preview(self) -> ImagePreview:
        return ImagePreview(base64.b64encode(self.load()).decode())


def preview_rows(table: pd.DataFrame, rows: int) -> TablePreview:
    """The first rows of a table, with every cell as text, because Kedro-Viz shows no lists and structures."""
    head = table.head(rows)
    shown = head.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)[:80])
    return TablePreview(shown.to_dict(orient="split"))

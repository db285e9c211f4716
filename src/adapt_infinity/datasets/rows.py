"""Tables of samples as Parquet: written block by block, and read only where rows are needed."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from kedro_datasets._typing import TablePreview

from adapt_infinity.data import parquet
from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.datasets.tables import preview_rows


class RowsDataset(AtomicDataset):
    """Saves an iterator of tables, loads a `pyarrow.dataset.Dataset` whose rows are not read yet."""

    def read(self, path: Path) -> ds.Dataset:
        return parquet.open_table(path)

    def write(self, data: Iterator[pa.Table], path: Path) -> None:
        parquet.write(path, data)

    def preview(self, nrows: int = 8) -> TablePreview:
        return preview_rows(parquet.head(self.load(), nrows).to_pandas(), nrows)

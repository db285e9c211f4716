"""Parquet files larger than memory: opened without reading their rows, and written block by block.

Pages carry checksums, which are verified whenever a page is read: corrupted bytes are an error, never data.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

ROW_GROUP = 16_384  # rows of a row group
READAHEAD = 2  # record batches that are read in advance


def open_table(path: Path) -> ds.Dataset:
    """The table in the Parquet file `path`. Only the footer is read; reading a corrupted page later is an `OSError`."""
    scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.dataset(path, format=ds.ParquetFileFormat(default_fragment_scan_options=scan))


def in_memory(table: pd.DataFrame, schema: pa.Schema | None = None) -> ds.Dataset:
    """A DataFrame as a pyarrow dataset. With `schema`, it has exactly its columns; what `table` lacks is null."""
    if schema is None:
        return ds.InMemoryDataset(pa.Table.from_pandas(table, preserve_index=False))
    columns = [
        pa.array(table[field.name].tolist(), field.type) if field.name in table else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return ds.InMemoryDataset(pa.table(columns, schema=schema))


def write(path: Path, blocks: Iterable[pa.Table]) -> int:
    """Write tables of one schema (at least one, which may be empty) as one Parquet file. Returns the number of rows.

    A thread writes a row group while the next block is computed. Rows are regrouped into row groups of fixed size, so
    the same rows give the same bytes however they are divided into blocks.
    """
    writer: pq.ParquetWriter | None = None
    pending: list[pa.Table] = []
    rows = pending_rows = 0
    with ThreadPoolExecutor(1) as thread:
        writing: Future[None] | None = None

        def start_writing(table: pa.Table) -> Future[None]:
            nonlocal writer
            if writing is not None:
                writing.result()
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="lz4", write_page_checksum=True)
            return thread.submit(writer.write_table, table, ROW_GROUP)

        try:
            for block in blocks:
                pending.append(block)
                pending_rows += len(block)
                rows += len(block)
                if pending_rows >= ROW_GROUP:
                    merged = pa.concat_tables(pending)
                    full = pending_rows // ROW_GROUP * ROW_GROUP
                    writing = start_writing(merged.slice(0, full))
                    pending, pending_rows = [merged.slice(full)], pending_rows - full
            assert pending, "a table consists of at least one block, which may be empty"
            if pending_rows or writer is None:
                writing = start_writing(pa.concat_tables(pending))
            if writing is not None:
                writing.result()
        finally:
            thread.shutdown(wait=True)
            if writer is not None:
                writer.close()
    return rows


def head(table: ds.Dataset, rows: int) -> pa.Table:
    """The first `rows` rows. No batch is read in advance, which for tables with wide rows would take gigabytes."""
    return table.head(rows, batch_size=rows, batch_readahead=0, fragment_readahead=0)


def take(table: ds.Dataset, row_numbers: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows with the given numbers (from 0), in that order. In memory are the result and one row group at a time."""
    order = np.argsort(row_numbers, kind="stable")
    scanner = table.scanner(
        columns=list(columns) if columns is not None else None, batch_readahead=READAHEAD, fragment_readahead=1
    )
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return scanner.take(pa.array(np.asarray(row_numbers)[order])).take(pa.array(inverse))

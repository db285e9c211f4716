"""Tables in Parquet files: opened without being read, written block by block; memory does not grow with their rows.

Pages carry checksums, verified whenever a page is read: bytes that have rotted are an error, never data.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

GROUP = 16_384  # rows of a row group
AHEAD = 2  # batches read ahead while rows are taken


def opened(path: Path) -> ds.Dataset:
    """The table at `path`; nothing but its footer is read."""
    scan = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    return ds.dataset(path, format=ds.ParquetFileFormat(default_fragment_scan_options=scan))


def in_memory(table: pd.DataFrame, schema: pa.Schema | None = None) -> ds.Dataset:
    """A table that has no file yet; with `schema`, its columns are those, and what the table lacks is null."""
    if schema is None:
        return ds.InMemoryDataset(pa.Table.from_pandas(table, preserve_index=False))
    columns = [
        pa.array(table[field.name].tolist(), field.type) if field.name in table else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return ds.InMemoryDataset(pa.table(columns, schema=schema))


def write(path: Path, blocks: Iterable[pa.Table]) -> int:
    """Write the blocks as one file, the next one being made while one is written. Returns the rows written.

    The same blocks give the same bytes; rows are regrouped, so where a block ends does not show.
    """
    writer: pq.ParquetWriter | None = None
    waiting: list[pa.Table] = []
    rows = held = 0
    with ThreadPoolExecutor(1) as hand:
        writing: Future[None] | None = None

        def hand_over(table: pa.Table) -> Future[None]:
            nonlocal writer
            if writing is not None:
                writing.result()
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="lz4", write_page_checksum=True)
            return hand.submit(writer.write_table, table, GROUP)

        try:
            for block in blocks:
                waiting.append(block)
                held += len(block)
                rows += len(block)
                if held >= GROUP:
                    merged = pa.concat_tables(waiting)
                    full = held // GROUP * GROUP
                    writing = hand_over(merged.slice(0, full))
                    waiting, held = [merged.slice(full)], held - full
            assert waiting, "a table has at least one block, if an empty one"
            if held or writer is None:
                writing = hand_over(pa.concat_tables(waiting))
            if writing is not None:
                writing.result()
        finally:
            hand.shutdown(wait=True)
            if writer is not None:
                writer.close()
    return rows


def head(table: ds.Dataset, rows: int) -> pa.Table:
    """The first rows, and nothing read ahead of them: of wide tables that would be gigabytes."""
    return table.head(rows, batch_size=rows, batch_readahead=0, fragment_readahead=0)


def take(table: ds.Dataset, places: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows at the given places, in that order; a row group is in memory at a time, and what was taken."""
    order = np.argsort(places, kind="stable")
    scanner = table.scanner(
        columns=list(columns) if columns is not None else None, batch_readahead=AHEAD, fragment_readahead=1
    )
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return scanner.take(pa.array(np.asarray(places)[order])).take(pa.array(back))

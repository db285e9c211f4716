"""Raw records of a source, read one after another from JSON, JSON Lines, Parquet and Arrow files of any size.

A source is one file, a folder or a glob. A JSON file holds a list of records, an object that has this list under a key,
or an object whose values are the records. JSON and JSON Lines may be compressed with gzip. A record that cannot be read
comes as an `Unreadable` in its place, so that it is counted and reported.
"""

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapt_infinity.intake.streaming_json import (
    BYTE_ORDER_MARK,
    TruncatedFile,
    Unreadable,
    first_line,
    read_json,
    read_lines,
)

BATCH_ROWS = 256  # rows of a Parquet or Arrow file that are decoded together
EXTENSIONS = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow")


@dataclass(frozen=True)
class Records:
    """The raw records of a source. Each iteration reads the files again from the beginning."""

    path: Path  # a file, a folder or a glob
    list_key: str = ""  # of a JSON object: the key of its list of records
    by_key: bool = False  # whether a JSON object's values are the records
    limit: int | None = None  # read at most so many records
    join: Path | None = None  # a file whose records are merged into those of `path`
    join_list_key: str = ""  # as `list_key`, for the file `join`
    join_on: str = ""  # the field whose value is equal in two records to be merged

    def __iter__(self) -> Iterator[Any]:
        records = read_records(self.path, self.list_key, self.by_key)
        if self.join is not None:
            records = join_records(records, read_records(self.join, self.join_list_key), self.join_on)
        return islice(records, self.limit)

    @property
    def has_byte_order_mark(self) -> bool:
        """Whether one of the files begins with a byte order mark. Reading skips it."""
        return any(_begins_with_byte_order_mark(file) for file in files(self.path))


def files(path: Path) -> list[Path]:
    """The record files of `path` (a file, a folder or a glob), sorted by name."""
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path)) if has_magic(str(path)) else [])
    return sorted(file for file in found if file.is_file() and file_type(file) in EXTENSIONS)


def file_type(file: Path) -> str:
    """The file's extension, without `.gz`."""
    return file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix


def read_records(path: Path, list_key: str = "", by_key: bool = False) -> Iterator[Any]:
    """The records of all files of `path`; `ValueError` when there is no file.

    For JSON objects, `list_key` names the list of records, and `by_key` says that the object's values are the records.
    """
    found = files(path)
    if not found:
        raise ValueError(f"there is no file {path}")
    return (record for file in found for record in read_file(file, list_key, by_key))


def read_file(file: Path, list_key: str = "", by_key: bool = False) -> Iterator[Any]:
    """The records of one file, read as its extension says."""
    match file_type(file):
        case ".parquet":
            yield from _parquet(file)
        case ".arrow":
            yield from _arrow(file)
        case ".jsonl" | ".ndjson":
            with _open(file) as content:
                yield from read_lines(content, file.stat().st_size)
        case _:
            with _open(file) as content:
                yield from read_json(content, list_key, by_key, file.stat().st_size)


def _parquet(file: Path) -> Iterator[Any]:
    yield from _rows(file, lambda: pq.ParquetFile(file, memory_map=True).iter_batches(batch_size=BATCH_ROWS))


def _arrow(file: Path) -> Iterator[Any]:
    def batches() -> Iterator[pa.RecordBatch]:
        mapped = pa.memory_map(str(file))
        try:
            yield from pa.ipc.open_stream(mapped)  # the format that Hugging Face's `save_to_disk` writes
        except pa.ArrowInvalid:
            mapped.seek(0)
            reader = pa.ipc.open_file(mapped)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))

    yield from _rows(file, batches)


def _rows(file: Path, batches: Any) -> Iterator[Any]:
    try:
        for batch in batches():
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield from batch.slice(start, BATCH_ROWS).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Unreadable(f"{file.name} is truncated: {first_line(error)}", "", 1.0)


def _open(file: Path) -> Any:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _begins_with_byte_order_mark(file: Path) -> bool:
    if file_type(file) not in (".json", ".jsonl", ".ndjson"):
        return False
    with _open(file) as content:
        return TruncatedFile(content).read(3) == BYTE_ORDER_MARK


def join_records(records: Iterator[Any], others: Iterator[Any], on: str) -> Iterator[Any]:
    """Add to each record the fields of the one of `others` that has the same value in the field `on`.

    Where both have a field, the record's own value counts. `others` is held in memory. A record without a partner is
    unchanged; its format reports the fields that it lacks.
    """
    partners = {other[on]: other for other in others if isinstance(other, Mapping) and _is_key(other.get(on))}
    for record in records:
        if isinstance(record, Mapping) and _is_key(record.get(on)):
            yield {**partners.get(record[on], {}), **record}
        else:
            yield record


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int)

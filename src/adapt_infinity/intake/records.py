"""Raw records out of files, one after another: a file of any size is never in memory as a whole.

JSON (a list; an object whose list lies under a key, or whose entries are the records), JSON with a record a line,
Parquet and Arrow, each also as a folder or a glob of such files, JSON also compressed with gzip. What cannot be read
comes as an `Unreadable` in its place, so that nothing disappears.
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

from adapt_infinity.intake.streaming_json import MARK, Calm, Unreadable, first_line, read_json, read_lines

ROWS = 256  # rows of a columnar file decoded together
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow")


@dataclass(frozen=True)
class Records:
    """The records of a source, read anew each time they are asked for."""

    path: Path  # a file, a folder or a glob
    under: str = ""
    keyed: bool = False
    limit: int | None = None
    join: Path | None = None  # a file whose records are merged into these
    join_under: str = ""
    on: str = ""  # by this field

    def __iter__(self) -> Iterator[Any]:
        records = read_records(self.path, self.under, self.keyed)
        if self.join is not None:
            records = joined(records, read_records(self.join, self.join_under), self.on)
        return islice(records, self.limit)

    @property
    def marked(self) -> bool:
        """Whether a file begins with a byte order mark, which is read over."""
        return any(_begins_with_mark(file) for file in files(self.path))


def files(path: Path) -> list[Path]:
    """The files that `path` (a file, a folder, or a glob) stands for, in order of their names."""
    if path.is_file():
        return [path]
    found = path.rglob("*") if path.is_dir() else map(Path, glob(str(path)) if has_magic(str(path)) else [])
    return sorted(file for file in found if file.is_file() and kind(file) in SUFFIXES)


def kind(file: Path) -> str:
    """Its suffix, compression apart."""
    return file.with_suffix("").suffix if file.suffix == ".gz" else file.suffix


def read_records(path: Path, under: str = "", keyed: bool = False) -> Iterator[Any]:
    """The records of all files that `path` stands for; `ValueError` when there is none.

    `under` names the list in a JSON object, `keyed` says that an object's entries are the records.
    """
    found = files(path)
    if not found:
        raise ValueError(f"there is no file {path}")
    return (record for file in found for record in read_file(file, under, keyed))


def read_file(file: Path, under: str = "", keyed: bool = False) -> Iterator[Any]:
    """The records of one file, by its suffix."""
    match kind(file):
        case ".parquet":
            yield from _parquet(file)
        case ".arrow":
            yield from _arrow(file)
        case ".jsonl" | ".ndjson":
            with _open(file) as content:
                yield from read_lines(content, file.stat().st_size)
        case _:
            with _open(file) as content:
                yield from read_json(content, under, keyed, file.stat().st_size)


def _parquet(file: Path) -> Iterator[Any]:
    yield from _columnar(file, lambda: pq.ParquetFile(file, memory_map=True).iter_batches(batch_size=ROWS))


def _arrow(file: Path) -> Iterator[Any]:
    def batches() -> Iterator[pa.RecordBatch]:
        mapped = pa.memory_map(str(file))
        try:
            yield from pa.ipc.open_stream(mapped)  # what Hugging Face's `save_to_disk` writes
        except pa.ArrowInvalid:
            mapped.seek(0)
            reader = pa.ipc.open_file(mapped)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))

    yield from _columnar(file, batches)


def _columnar(file: Path, batches: Any) -> Iterator[Any]:
    try:
        for batch in batches():
            for start in range(0, batch.num_rows, ROWS):
                yield from batch.slice(start, ROWS).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Unreadable(f"{file.name} breaks off: {first_line(error)}", "", 1.0)


def _open(file: Path) -> Any:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _begins_with_mark(file: Path) -> bool:
    if kind(file) not in (".json", ".jsonl", ".ndjson"):
        return False
    with _open(file) as content:
        return Calm(content).read(3) == MARK


def joined(records: Iterator[Any], others: Iterator[Any], on: str) -> Iterator[Any]:
    """Each record with the fields of the one of `others` that has the same value under `on` added to it.

    `others` is held in memory. A record without a partner comes as it is: its format says what it misses.
    """
    partners = {other[on]: other for other in others if isinstance(other, Mapping) and _hashable(other.get(on))}
    for record in records:
        if isinstance(record, Mapping) and _hashable(record.get(on)):
            yield {**partners.get(record[on], {}), **record}
        else:
            yield record


def _hashable(value: Any) -> bool:
    return isinstance(value, str | int)

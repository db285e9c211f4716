"""Raw records out of files, one after another: a file of any size is never in memory as a whole.

JSON (a list; an object whose list lies under a key, or whose entries are the records), JSON with a record a line,
Parquet and Arrow, each also as a folder or a glob of such files, JSON also compressed with gzip. What cannot be read
comes as an `Unreadable` in its place, so that nothing disappears: a line that is no JSON is one of them and the next
line is read; a JSON list that breaks off, or off which the syntax is lost, ends with one, which says how much was lost.
"""

import gzip
import json
import re
import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 1 << 18  # bytes read at a time
LONGEST = 1 << 28  # characters of one record: beyond it a file is taken to be broken
MARK = b"\xef\xbb\xbf"  # a byte order mark
SHOWN = 1000  # characters of what could not be read that are kept
_NUMBER = "0123456789.eE+-"  # what numbers are written with
ROWS = 256  # rows of a columnar file decoded together
SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow")


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of records that could not be read."""

    reason: str
    raw: str
    lost: float = 0.0  # the share of its file that was left unread


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


def read_lines(content: BufferedIOBase, size: int = 0) -> Iterator[Any]:
    """A record a line; empty lines are none. `size`, in bytes, serves to say which share of a broken file was lost."""
    calm = _Calm(content)
    first = True
    while line := calm.readline(LONGEST):
        line = line.removeprefix(MARK) if first else line
        first = False
        if not line.strip():
            continue
        try:
            yield json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Unreadable(f"the line is not UTF-8: {error.reason}", _shown(line))
        except (ValueError, RecursionError) as error:
            yield Unreadable(f"the line is not JSON: {_why(error)}", _shown(line))
    if calm.broken:
        yield Unreadable(f"the file breaks off: {calm.broken}", "", calm.lost(size))


def read_json(content: BufferedIOBase, under: str = "", keyed: bool = False, size: int = 0) -> Iterator[Any]:
    """The records of a JSON document; `size`, in bytes, serves to say which share of a broken one was lost."""
    text = _Text(_Calm(content), size)
    try:
        opening = text.peek()
        if opening == "[" and not keyed:
            yield from _listed(text)
        elif opening == "{" and keyed:
            yield from _entries(text)
        elif opening == "{" and under:
            yield from _under(text, under)
        else:
            wanted = "an object of records" if keyed else f"an object with {under!r}" if under else "a list of records"
            raise _BrokenError(f"the file is not {wanted}")
    except _BrokenError as broken:
        yield Unreadable(str(broken), text.left(SHOWN), text.lost())


class _BrokenError(Exception):
    """Where a JSON document stops making sense."""


class _Calm:
    """A file whose end may come early: compressed data that break off end the reading instead of the program."""

    def __init__(self, content: BufferedIOBase) -> None:
        self._content, self.broken = content, ""

    def read(self, size: int) -> bytes:
        return self._attempt(self._content.read, size)

    def readline(self, size: int) -> bytes:
        return self._attempt(self._content.readline, size)

    def lost(self, size: int, waiting: float = 0.0) -> float:
        """The share of `size` bytes on disk that has not been read, or is `waiting` (a share of what has been)."""
        raw = getattr(self._content, "fileobj", self._content)  # of compressed data, the file below them
        read = raw.tell() if size else 0
        return min(1.0, max(0.0, (size - read * (1 - waiting)) / size)) if size else 0.0

    def _attempt(self, how: Any, size: int) -> bytes:
        try:
            return bytes(how(size))
        except (OSError, EOFError, ValueError, zlib.error) as error:  # gzip's ways of saying that data are damaged
            self.broken = str(error)
            return b""


class _Text:
    """A window on the characters of a file, with JSON values read off its front.

    Bytes that are no UTF-8 become lone surrogates, which no record that is accepted may contain: they spoil the record
    in which they stand and no other.
    """

    _space = re.compile(r"[ \t\n\r]*")

    def __init__(self, content: _Calm, size: int) -> None:
        self._content, self._size = content, size
        self._decode = getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._scan = json.JSONDecoder().raw_decode
        self._window, self._at, self._taken, self._over = "", 0, 0, False

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            match = self._space.match(self._window, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._window) or not self._more(CHUNK):
                return self._window[self._at : self._at + 1]

    def skip(self, expected: str) -> None:
        """Go past one character that must come next."""
        found = self.peek()
        if found != expected:
            raise _BrokenError(f"expected {expected!r}, found {found!r}" if found else "the file breaks off")
        self._at += 1

    def value(self) -> Any:
        """The next JSON value."""
        if not self.peek():
            raise _BrokenError("the file breaks off")
        step = CHUNK
        while True:
            try:
                found, end = self._scan(self._window, self._at)
            except json.JSONDecodeError as error:
                if not self._could_go_on(error):
                    raise _BrokenError(f"not JSON: {error.msg}") from error
                if len(self._window) - self._at > LONGEST:
                    raise _BrokenError(f"a record is longer than {LONGEST} characters") from error
                if not self._more(step):
                    raise _BrokenError(f"the file breaks off: {self._content.broken or error.msg}") from error
                step *= 2  # long records are read in few attempts
            except (ValueError, RecursionError) as error:  # a number of thousands of digits; a thousand brackets
                raise _BrokenError(f"not JSON: {_why(error)}") from error
            else:
                if isinstance(found, int | float) and not self._window[end:].strip(_NUMBER) and self._more(step):
                    continue  # a number at the window's edge may have more digits to come
                self._at = end
                return found

    def left(self, length: int) -> str:
        """The beginning of what has not been read."""
        return self._window[self._at : self._at + length].encode("utf-8", "replace").decode()

    def lost(self) -> float:
        """The share of the file that has not been read, as far as its size is known."""
        waiting = (len(self._window) - self._at) / self._taken if self._taken else 0.0
        return self._content.lost(self._size, waiting)

    def _more(self, size: int) -> bool:
        if self._over:
            return False
        content = self._content.read(size)
        self._taken += len(content)
        self._over = not content
        fresh = self._decode(content, self._over)
        self._window, self._at = self._window[self._at :] + fresh, 0
        return bool(content) or bool(fresh)

    def _could_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether more of the file could mend it: a string without an end, or an end in the middle of something."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._window) - 12


def _listed(text: _Text) -> Iterator[Any]:
    text.skip("[")
    if text.peek() == "]":
        return
    while True:
        yield text.value()
        if text.peek() == "]":
            return
        text.skip(",")


def _entries(text: _Text) -> Iterator[Any]:
    for key in _keys(text):
        yield {"key": key, "value": text.value()}


def _under(text: _Text, under: str) -> Iterator[Any]:
    for key in _keys(text):
        if key == under and text.peek() == "[":
            yield from _listed(text)
            return
        text.value()
    raise _BrokenError(f"the file has no list under {under!r}")


def _keys(text: _Text) -> Iterator[str]:
    """The keys of an object; whoever asks reads the value of each before asking on."""
    text.skip("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise _BrokenError("a key is not text")
        text.skip(":")
        yield key
        if text.peek() == "}":
            return
        text.skip(",")


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
        yield Unreadable(f"{file.name} breaks off: {_why(error)}", "", 1.0)


def _open(file: Path) -> Any:
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _begins_with_mark(file: Path) -> bool:
    if kind(file) not in (".json", ".jsonl", ".ndjson"):
        return False
    with _open(file) as content:
        return _Calm(content).read(3) == MARK


def _shown(line: bytes) -> str:
    return line[:SHOWN].decode("utf-8", "replace")


def _why(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


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

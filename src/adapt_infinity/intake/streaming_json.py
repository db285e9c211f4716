"""JSON files of any size, read record by record through a window on their characters.

A record that cannot be read comes as an `Unreadable` in its place. In a file with one record per line, a line that is
not JSON costs this line only. In a JSON document, a syntax error or an early end costs the rest of the file: the last
record is then an `Unreadable` that says which share of the file was lost.
"""

import json
import re
import zlib
from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

CHUNK = 1 << 18  # bytes read at a time
MAX_RECORD = 1 << 28  # characters of one record; a longer one is taken for a broken file
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_RAW = 1000  # characters of unreadable text that are stored
_NUMBER_CHARACTERS = "0123456789.eE+-"


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of one or more records that could not be read."""

    reason: str
    raw: str  # the beginning of what could not be read
    lost_share: float = 0.0  # share of the file that was not read


def read_lines(content: BufferedIOBase, size: int = 0) -> Iterator[Any]:
    """The records of a file with one JSON record per line; empty lines are skipped.

    `size` is the size of the file on disk in bytes, from which the lost share of a truncated file is computed.
    """
    file = TruncatedFile(content)
    first = True
    while line := file.readline(MAX_RECORD):
        line = line.removeprefix(BYTE_ORDER_MARK) if first else line
        first = False
        if not line.strip():
            continue
        try:
            yield json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Unreadable(f"the line is not UTF-8: {error.reason}", _raw(line))
        except (ValueError, RecursionError) as error:
            yield Unreadable(f"the line is not JSON: {first_line(error)}", _raw(line))
    if file.error:
        yield Unreadable(f"the file is truncated: {file.error}", "", file.lost_share(size))


def read_json(content: BufferedIOBase, list_key: str = "", by_key: bool = False, size: int = 0) -> Iterator[Any]:
    """The records of a JSON document, which is one of three kinds.

    By default it is a list of records. With `list_key`, it is an object that has this list under that key. With
    `by_key`, it is an object whose values are the records; each comes as `{"key": …, "value": …}`. `size` is the size
    of the file on disk in bytes, from which the lost share of a broken file is computed.
    """
    window = _Window(TruncatedFile(content), size)
    try:
        opening = window.peek()
        if opening == "[" and not by_key:
            yield from _list_items(window)
        elif opening == "{" and by_key:
            for key in _object_keys(window):
                yield {"key": key, "value": window.value()}
        elif opening == "{" and list_key:
            yield from _list_under(window, list_key)
        else:
            with_list = f"an object with {list_key!r}" if list_key else "a list of records"
            expected = "an object of records" if by_key else with_list
            raise _BrokenError(f"the file is not {expected}")
    except _BrokenError as error:
        yield Unreadable(str(error), window.rest(MAX_RAW), window.lost_share())


class _BrokenError(Exception):
    """Raised where a JSON document has a syntax error or ends early."""


class TruncatedFile:
    """A file that may be truncated: damaged compressed data end the reading, and do not raise an error."""

    def __init__(self, content: BufferedIOBase) -> None:
        self._content, self.error = content, ""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end of the file, and where its data are damaged."""
        return self._attempt(self._content.read, size)

    def readline(self, size: int) -> bytes:
        """The next line, or its first `size` bytes."""
        return self._attempt(self._content.readline, size)

    def lost_share(self, size: int, unparsed: float = 0.0) -> float:
        """The share of the file's `size` bytes that was not read, plus the share `unparsed` of what was read."""
        raw = getattr(self._content, "fileobj", self._content)  # for compressed data, the compressed file
        read = raw.tell() if size else 0
        return min(1.0, max(0.0, (size - read * (1 - unparsed)) / size)) if size else 0.0

    def _attempt(self, read: Any, size: int) -> bytes:
        try:
            return bytes(read(size))
        except (OSError, EOFError, ValueError, zlib.error) as error:  # what gzip raises for damaged data
            self.error = str(error)
            return b""


class _Window:
    """A window on the characters of a file, from whose front JSON values are parsed.

    Bytes that are not UTF-8 become lone surrogates. Intake rejects every record with one, so such bytes spoil their own
    record only.
    """

    _white_space = re.compile(r"[ \t\n\r]*")

    def __init__(self, file: TruncatedFile, size: int) -> None:
        self._file, self._size = file, size
        self._decode = getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._parse = json.JSONDecoder().raw_decode
        self._text, self._position, self._bytes_read, self._at_end = "", 0, 0, False

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            match = self._white_space.match(self._text, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._text) or not self._read_more(CHUNK):
                return self._text[self._position : self._position + 1]

    def skip(self, expected: str) -> None:
        """Advance past the next character, which must be `expected`."""
        found = self.peek()
        if found != expected:
            raise _BrokenError(f"expected {expected!r}, found {found!r}" if found else "the file is truncated")
        self._position += 1

    def value(self) -> Any:
        """Parse the next JSON value."""
        if not self.peek():
            raise _BrokenError("the file is truncated")
        step = CHUNK
        while True:
            try:
                found, end = self._parse(self._text, self._position)
            except json.JSONDecodeError as error:
                if not self._may_be_incomplete(error):
                    raise _BrokenError(f"not JSON: {error.msg}") from error
                if len(self._text) - self._position > MAX_RECORD:
                    raise _BrokenError(f"a record is longer than {MAX_RECORD} characters") from error
                if not self._read_more(step):
                    raise _BrokenError(f"the file is truncated: {self._file.error or error.msg}") from error
                step *= 2  # so that a long record is parsed in few attempts
            except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
                raise _BrokenError(f"not JSON: {first_line(error)}") from error
            else:
                number_at_edge = isinstance(found, int | float) and not self._text[end:].strip(_NUMBER_CHARACTERS)
                if number_at_edge and self._read_more(step):
                    continue  # more digits may follow
                self._position = end
                return found

    def rest(self, length: int) -> str:
        """The first `length` characters that have not been parsed."""
        return self._text[self._position : self._position + length].encode("utf-8", "replace").decode()

    def lost_share(self) -> float:
        """The share of the file that has not been parsed; 0 when the file's size is not known."""
        unparsed = (len(self._text) - self._position) / self._bytes_read if self._bytes_read else 0.0
        return self._file.lost_share(self._size, unparsed)

    def _read_more(self, size: int) -> bool:
        if self._at_end:
            return False
        content = self._file.read(size)
        self._bytes_read += len(content)
        self._at_end = not content
        text = self._decode(content, self._at_end)
        self._text, self._position = self._text[self._position :] + text, 0
        return bool(content) or bool(text)

    def _may_be_incomplete(self, error: json.JSONDecodeError) -> bool:
        """Whether more of the file could remove the error: a string without an end, or an error at the window's end."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - 12


def _list_items(window: _Window) -> Iterator[Any]:
    window.skip("[")
    if window.peek() == "]":
        return
    while True:
        yield window.value()
        if window.peek() == "]":
            return
        window.skip(",")


def _list_under(window: _Window, list_key: str) -> Iterator[Any]:
    for key in _object_keys(window):
        if key == list_key and window.peek() == "[":
            yield from _list_items(window)
            return
        window.value()
    raise _BrokenError(f"the file has no list under {list_key!r}")


def _object_keys(window: _Window) -> Iterator[str]:
    """The keys of an object. The caller must parse the value of each key before it asks for the next."""
    window.skip("{")
    if window.peek() == "}":
        return
    while True:
        key = window.value()
        if not isinstance(key, str):
            raise _BrokenError("a key is not text")
        window.skip(":")
        yield key
        if window.peek() == "}":
            return
        window.skip(",")


def _raw(line: bytes) -> str:
    return line[:MAX_RAW].decode("utf-8", "replace")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its type when it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__

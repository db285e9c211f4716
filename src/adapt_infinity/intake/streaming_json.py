"""JSON read piece by piece: a document or a record a line, of any size, off the front of a window on its characters.

What cannot be read comes as an `Unreadable` in its place: a line that is no JSON is one of them and the next line is
read; a list that breaks off, or off which the syntax is lost, ends with one, which says how much was lost.
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
LONGEST = 1 << 28  # characters of one record: beyond it a file is taken to be broken
MARK = b"\xef\xbb\xbf"  # a byte order mark
SHOWN = 1000  # characters of what could not be read that are kept
_NUMBER = "0123456789.eE+-"  # what numbers are written with


@dataclass(frozen=True)
class Unreadable:
    """What stands in the place of records that could not be read."""

    reason: str
    raw: str
    lost: float = 0.0  # the share of its file that was left unread


def read_lines(content: BufferedIOBase, size: int = 0) -> Iterator[Any]:
    """A record a line; empty lines are none. `size`, in bytes, serves to say which share of a broken file was lost."""
    calm = Calm(content)
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
            yield Unreadable(f"the line is not JSON: {first_line(error)}", _shown(line))
    if calm.broken:
        yield Unreadable(f"the file breaks off: {calm.broken}", "", calm.lost(size))


def read_json(content: BufferedIOBase, under: str = "", keyed: bool = False, size: int = 0) -> Iterator[Any]:
    """The records of a JSON document; `size`, in bytes, serves to say which share of a broken one was lost."""
    text = _Text(Calm(content), size)
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


class Calm:
    """A file whose end may come early: compressed data that break off end the reading instead of the program."""

    def __init__(self, content: BufferedIOBase) -> None:
        self._content, self.broken = content, ""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end, or where the data are damaged."""
        return self._attempt(self._content.read, size)

    def readline(self, size: int) -> bytes:
        """The next line, or its first `size` bytes."""
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

    def __init__(self, content: Calm, size: int) -> None:
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
                raise _BrokenError(f"not JSON: {first_line(error)}") from error
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


def _shown(line: bytes) -> str:
    return line[:SHOWN].decode("utf-8", "replace")


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""Rejects: the records that intake refuses, each with its reason and its raw text. A long list of them lies on disk."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any

import pyarrow as pa

from adapt_infinity.intake.streaming_json import Unreadable

REJECT_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),  # of the record in its source, from 0
        ("source_id", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),  # the record as JSON, or the beginning of what could not be parsed
    ]
)
MAX_IN_MEMORY = 1 << 24  # bytes of rejects; when there are more, all go to a temporary file


class Rejects:
    """The rejects of one source: added one by one, then read once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._reasons: Counter[str] = Counter()
        self._file = SpooledTemporaryFile(MAX_IN_MEMORY, "w+", encoding="utf-8")  # noqa: SIM115

    def __len__(self) -> int:
        return self._reasons.total()

    def add(self, position: int, record: Any, source_id: str, reason: str) -> None:
        """Add the record at `position` of the source, or one of the conversations in it."""
        raw = record.raw if isinstance(record, Unreadable) else json.dumps(record, ensure_ascii=False, default=_as_text)
        entry: dict[str, Any] = {
            "source": self._source,
            "position": position,
            "source_id": _encodable(source_id),
            "reason": _encodable(reason),
            "raw": _encodable(raw),
        }
        self._reasons[without_details(entry["reason"])] += 1
        self._file.write(json.dumps(entry) + "\n")

    def reasons(self) -> str:
        """The three most frequent reasons, with their counts."""
        return ", ".join(f"{reason} ({count})" for reason, count in self._reasons.most_common(3))

    def tables(self) -> Iterator[pa.Table]:
        """All rejects, as tables of schema `REJECT_SCHEMA`. Can be called once; then the file is closed."""
        self._file.seek(0)
        yield pa.Table.from_pylist([], REJECT_SCHEMA)
        while lines := self._file.readlines(MAX_IN_MEMORY):
            yield pa.Table.from_pylist([json.loads(line) for line in lines], REJECT_SCHEMA)
        self._file.close()


def without_details(reason: str) -> str:
    """A reason with its names and numbers replaced by "…", so that equal reasons are counted together."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", reason)


def _as_text(value: Any) -> str:
    """The text that stands for a value that JSON cannot hold."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}>"
    return str(value)


def _encodable(text: str) -> str:
    """The text with lone surrogates escaped, so that UTF-8 can encode it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

"""What is set aside while a source is read: every record with its reason and its raw text, on disk where it is much."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any

import pyarrow as pa

from adapt_infinity.intake.streaming_json import Unreadable

REJECTS = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),  # of the record in its source
        ("source_id", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),
    ]
)
SPOOLED = 1 << 24  # bytes of rejects in memory; more of them wait on disk


class Rejects:
    """Of one source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._reasons: Counter[str] = Counter()
        self._spool = SpooledTemporaryFile(SPOOLED, "w+", encoding="utf-8")  # noqa: SIM115

    def __len__(self) -> int:
        return self._reasons.total()

    def add(self, position: int, record: Any, source_id: str, reason: str) -> None:
        """The record at a place of the source, or one of its conversations."""
        raw = record.raw if isinstance(record, Unreadable) else json.dumps(record, ensure_ascii=False, default=_plain)
        entry: dict[str, Any] = {
            "source": self._source,
            "position": position,
            "source_id": _writable(source_id),
            "reason": _writable(reason),
            "raw": _writable(raw),
        }
        self._reasons[general(entry["reason"])] += 1
        self._spool.write(json.dumps(entry) + "\n")

    def reasons(self) -> str:
        """The commonest three, with their counts."""
        return ", ".join(f"{reason} ({count})" for reason, count in self._reasons.most_common(3))

    def tables(self) -> Iterator[pa.Table]:
        """All of them (schema REJECTS), once."""
        self._spool.seek(0)
        yield pa.Table.from_pylist([], REJECTS)
        while lines := self._spool.readlines(SPOOLED):
            yield pa.Table.from_pylist([json.loads(line) for line in lines], REJECTS)
        self._spool.close()


def general(reason: str) -> str:
    """A reason without names and numbers, so that like counts with like."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "…", reason)


def _plain(value: Any) -> str:
    """What JSON cannot say, in words."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}>"
    return str(value)


def _writable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

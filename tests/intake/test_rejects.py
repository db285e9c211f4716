"""Rejects: counted by reason, stored with their raw text, and read once."""

import pytest

from adapt_infinity.intake import rejects
from adapt_infinity.intake.rejects import REJECT_SCHEMA, Rejects
from adapt_infinity.intake.streaming_json import Unreadable


def test_rejects_are_counted_by_reason_and_come_back_from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasons that differ only in names and numbers are counted together."""
    monkeypatch.setattr(rejects, "MAX_IN_MEMORY", 64)
    found_rejects = Rejects("s")
    for number in range(4):
        found_rejects.add(number, {"id": number}, str(number), f"'p{number}.png' is missing")
    for reason, count in (("no answer", 3), ("too long", 2), ("once", 1)):
        for _ in range(count):
            found_rejects.add(9, {"picture": b"\x00"}, "nine", reason)
    found_rejects.add(10, Unreadable("broken", "{,"), "", "once")
    assert len(found_rejects) == 11
    assert found_rejects.reasons() == "… is missing (4), no answer (3), too long (2)"
    tables = list(found_rejects.tables())
    assert all(table.schema == REJECT_SCHEMA for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["position"] for row in rows] == [0, 1, 2, 3, *[9] * 6, 10]
    assert rows[0] == {
        "source": "s",
        "position": 0,
        "source_id": "0",
        "reason": "'p0.png' is missing",
        "raw": '{"id": 0}',
    }
    assert rows[9]["raw"].startswith('{"picture": "<1 bytes, sha256 ')
    assert rows[10]["raw"] == "{,"

"""What is set aside: counted by like reasons, written as it was, told once."""

import pytest

from adapt_infinity.intake import rejects
from adapt_infinity.intake.rejects import REJECTS, Rejects
from adapt_infinity.intake.streaming_json import Unreadable


def test_the_commonest_reasons_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasons that differ in a name or a number are one; what does not fit into memory comes back from disk."""
    monkeypatch.setattr(rejects, "SPOOLED", 64)
    aside = Rejects("s")
    for number in range(4):
        aside.add(number, {"id": number}, str(number), f"'p{number}.png' is missing")
    for reason, count in (("no answer", 3), ("too long", 2), ("once", 1)):
        for _ in range(count):
            aside.add(9, {"picture": b"\x00"}, "nine", reason)
    aside.add(10, Unreadable("broken", "{,"), "", "once")
    assert len(aside) == 11
    assert aside.reasons() == "… is missing (4), no answer (3), too long (2)"
    found = list(aside.tables())
    assert all(table.schema == REJECTS for table in found)
    rows = [row for table in found for row in table.to_pylist()]
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

"""Raw record → conversation; one file a format, found by its file name.

Each has one function, `parse(record) -> Conversation`, that raises `ValueError` with a reason for a record that it
cannot read. A format knows nothing of files, pools or models.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapt_infinity import rooms


@dataclass(frozen=True)
class Conversation:
    """What a raw record says, before anything is checked against the disk."""

    source_id: str
    skill: str  # "" where the record names none
    images: list[str]
    turns: list[dict[str, str]]  # role ("user" or "assistant") and text


def names() -> list[str]:
    """Every format there is."""
    return rooms.names(__name__)


def load(name: str) -> Callable[[Any], Conversation]:
    """The parse function of the format `name`; `ValueError` names the known ones."""
    parse: Callable[[Any], Conversation] = rooms.load(__name__, name, "parse")
    return parse

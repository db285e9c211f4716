"""What formats ask of raw records: fields of the expected kind, or a `ValueError` that says which is missing."""

from collections.abc import Mapping
from typing import Any

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def mapping(record: Any) -> Mapping[str, Any]:
    """The record, if it is an object."""
    if not isinstance(record, dict):
        raise ValueError("the record is not an object")
    return record


def text(record: Mapping[str, Any], key: str) -> str:
    """A field that must be there and be text."""
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"the record has no text under {key!r}")
    return value


def identifier(record: Mapping[str, Any], key: str = "id") -> str:
    """A name or whole number, as text; "" where there is none."""
    value = record.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{key!r} is neither text nor a whole number")
    return str(value)


def pictures(value: Any) -> list[str | bytes]:
    """None, one picture, or a list of them; each a path, or the bytes of an encoded picture."""
    if value is None or value == "":
        return []
    listed = value if isinstance(value, list) else [value]
    return [_picture(one) for one in listed]


def turn(speech: Any, role_key: str, text_key: str) -> dict[str, str]:
    """One thing said: who (human/user, gpt/assistant, system) and what."""
    if not isinstance(speech, dict) or not isinstance(speech.get(text_key), str):
        raise ValueError("a turn has no text")
    role = speech.get(role_key)
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"a turn is spoken by {role!r}, neither {' nor '.join(sorted(ROLES))}")
    return {"role": ROLES[role], "text": speech[text_key]}


def turns(speeches: Any, name: str, role_key: str, text_key: str) -> list[dict[str, str]]:
    """A list of things said, at least one."""
    if not isinstance(speeches, list) or not speeches:
        raise ValueError(f"the record has no {name}")
    return [turn(speech, role_key, text_key) for speech in speeches]


def _picture(one: Any) -> str | bytes:
    """A path, bytes, or Hugging Face's `{"bytes": …, "path": …}`."""
    if isinstance(one, dict):
        content = one.get("bytes")
        one = content if isinstance(content, bytes) else one.get("path")
    if not isinstance(one, str | bytes) or not one:
        raise ValueError("a picture is neither a path nor an encoded picture")
    return one

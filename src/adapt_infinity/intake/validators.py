"""What formats ask of raw records: fields of the expected kind, or a `ValueError` that says which is missing."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from adapt_infinity.data.sample import IMAGE

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


def name(record: Mapping[str, Any], key: str) -> str:
    """A name or whole number that must be there, as text."""
    value = identifier(record, key)
    if not value:
        raise ValueError(f"the record has no {key!r}")
    return value


def filled(template: str, record: Mapping[str, Any]) -> str:
    """`train2014/{image_id:012d}.jpg`, say, with the record's names and numbers in it; `d` takes numerals too."""
    known = {
        key: value for key, value in record.items() if isinstance(value, str | int) and not isinstance(value, bool)
    }
    try:
        if re.search(r":\d*d}", template):
            known = {key: int(value) if str(value).isdecimal() else value for key, value in known.items()}
        return template.format_map(known)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"the record does not fill the picture's path {template!r}: {error}") from error


def decoded(encoded: Any) -> bytes:
    """The bytes of a picture that came as base64; line breaks are allowed, other strange characters are not."""
    if not isinstance(encoded, str):
        raise ValueError("a picture is not text in base64")
    try:
        content = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"a picture is not base64: {error}") from error
    if not content:
        raise ValueError("a picture is empty")
    return content


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


def speeches(record: Mapping[str, Any], *names: str) -> list[dict[str, str]]:
    """The things said under the first of `names` that is there; each has from and value, or role and content."""
    key = next((key for key in names if record.get(key) is not None), names[0])
    said = record.get(key)
    llava = isinstance(said, list) and any(isinstance(speech, dict) and "from" in speech for speech in said)
    return turns(said, key, *(("from", "value") if llava else ("role", "content")))


def placed(said: list[dict[str, str]], pictures: int) -> list[dict[str, str]]:
    """The turns, with every picture before the first question if none of them places any."""
    first = next((turn for turn in said if turn["role"] == "user"), None)
    if first is None or any(IMAGE in turn["text"] for turn in said):
        return said
    shown = {**first, "text": f"{IMAGE}\n" * pictures + first["text"]}
    return [shown if turn is first else turn for turn in said]


def exchange(question: str, answer: str, pictures: int = 0, hint: str = "") -> list[dict[str, str]]:
    """One question and its answer: before it a line a picture, unless it places them itself; after it the hint."""
    missing = 0 if IMAGE in question else pictures
    asked = f"{IMAGE}\n" * missing + question + (f"\n{hint}" if hint else "")
    return [{"role": "user", "text": asked}, {"role": "assistant", "text": answer}]


def answers(value: Any) -> list[str]:
    """What several people answered, at least one: a list of texts, or of `{"answer": text}`."""
    if not isinstance(value, list) or not value:
        raise ValueError("the record has no answers")
    said = [one.get("answer") if isinstance(one, dict) else one for one in value]
    return [_said(one) for one in said]


def commonest(said: list[str]) -> str:
    """What most people answered; of several, what was said first."""
    return Counter(said).most_common(1)[0][0]


def _said(one: Any) -> str:
    if not isinstance(one, str):
        raise ValueError("an answer is not text")
    return one


def _picture(one: Any) -> str | bytes:
    """A path, bytes, or Hugging Face's `{"bytes": …, "path": …}`."""
    if isinstance(one, dict):
        content = one.get("bytes")
        one = content if isinstance(content, bytes) else one.get("path")
    if not isinstance(one, str | bytes) or not one:
        raise ValueError("a picture is neither a path nor an encoded picture")
    return one

"""Functions by which formats read the fields of a raw record. Each checks the type of a field.

All raise a `ValueError` that names a missing field, or says what is wrong with its value; intake then rejects the
record for this reason.
"""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from adapt_infinity.data.sample import IMAGE

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def require_dict(record: Any) -> Mapping[str, Any]:
    """The record, which must be a JSON object."""
    if not isinstance(record, dict):
        raise ValueError("the record is not an object")
    return record


def require_text(record: Mapping[str, Any], key: str) -> str:
    """The text in the field `key`, which must exist; it may be empty."""
    value = record.get(key)
    if not isinstance(value, str):
        raise ValueError(f"the record has no text under {key!r}")
    return value


def optional_id(record: Mapping[str, Any], key: str = "id") -> str:
    """The field `key` as text, which must be text or a whole number; "" when it is missing or null."""
    value = record.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{key!r} is neither text nor a whole number")
    return str(value)


def require_id(record: Mapping[str, Any], key: str) -> str:
    """The field `key` as text, which must be text or a whole number, and not empty."""
    value = optional_id(record, key)
    if not value:
        raise ValueError(f"the record has no {key!r}")
    return value


def fill_path(template: str, record: Mapping[str, Any]) -> str:
    """A picture's path, with the record's fields in a template such as `train2014/{image_id:012d}.jpg`.

    Fields that are text or whole numbers can be used. With the format `d`, digits in a text count as a number.
    """
    known = {
        key: value for key, value in record.items() if isinstance(value, str | int) and not isinstance(value, bool)
    }
    try:
        if re.search(r":\d*d}", template):
            known = {key: int(value) if str(value).isdecimal() else value for key, value in known.items()}
        return template.format_map(known)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"the record lacks a field of the picture's path {template!r}: {error}") from error


def decode_base64(encoded: Any) -> bytes:
    """The bytes of a picture file in base64. White space is ignored; other foreign characters are an error."""
    if not isinstance(encoded, str):
        raise ValueError("a picture is not text in base64")
    try:
        content = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"a picture is not base64: {error}") from error
    if not content:
        raise ValueError("a picture is empty")
    return content


def list_pictures(value: Any) -> list[str | bytes]:
    """The pictures in a field that holds nothing, one picture or a list: each a path, or the bytes of a file."""
    if value is None or value == "":
        return []
    return [_picture(one) for one in (value if isinstance(value, list) else [value])]


def parse_turn(turn: Any, role_key: str, text_key: str) -> dict[str, str]:
    """One turn as `{"role": …, "text": …}`. The role may be human or user, gpt or assistant, or system."""
    if not isinstance(turn, dict) or not isinstance(turn.get(text_key), str):
        raise ValueError("a turn has no text")
    role = turn.get(role_key)
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(f"a turn has the role {role!r}, which is not one of {', '.join(sorted(ROLES))}")
    return {"role": ROLES[role], "text": turn[text_key]}


def parse_turns(turns: Any, name: str, role_key: str, text_key: str) -> list[dict[str, str]]:
    """The turns of a list, which must not be empty; `name` is the name of the field in error messages."""
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"the record has no {name}")
    return [parse_turn(turn, role_key, text_key) for turn in turns]


def find_turns(record: Mapping[str, Any], *names: str) -> list[dict[str, str]]:
    """The turns in the first of the fields `names` that exists; each has from and value, or role and content."""
    key = next((key for key in names if record.get(key) is not None), names[0])
    turns = record.get(key)
    as_in_llava = isinstance(turns, list) and any(isinstance(turn, dict) and "from" in turn for turn in turns)
    return parse_turns(turns, key, *(("from", "value") if as_in_llava else ("role", "content")))


def place_pictures(turns: list[dict[str, str]], pictures: int) -> list[dict[str, str]]:
    """The turns, with all placeholders before the first question when no turn has one."""
    first = next((turn for turn in turns if turn["role"] == "user"), None)
    if first is None or any(IMAGE in turn["text"] for turn in turns):
        return turns
    with_pictures = {**first, "text": f"{IMAGE}\n" * pictures + first["text"]}
    return [with_pictures if turn is first else turn for turn in turns]


def make_turns(question: str, answer: str, pictures: int = 0, hint: str = "") -> list[dict[str, str]]:
    """A question and its answer as two turns.

    Before a question without placeholders stands one line with a placeholder per picture; after it stands the hint.
    """
    missing = 0 if IMAGE in question else pictures
    text = f"{IMAGE}\n" * missing + question + (f"\n{hint}" if hint else "")
    return [{"role": "user", "text": text}, {"role": "assistant", "text": answer}]


def list_answers(value: Any) -> list[str]:
    """The answers of several people, at least one: a list of texts, or of objects `{"answer": text}`."""
    if not isinstance(value, list) or not value:
        raise ValueError("the record has no answers")
    return [_answer(one.get("answer") if isinstance(one, dict) else one) for one in value]


def most_frequent(answers: list[str]) -> str:
    """The most frequent answer; of several, the one that comes first."""
    return Counter(answers).most_common(1)[0][0]


def _answer(one: Any) -> str:
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

r"""Chat messages, one record per line, as in OpenAI's chat API and in many training tools.

    {"id": "1", "task": "caption", "messages": [
      {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "coco/000000033471.jpg"}},
                                   {"type": "text", "text": "\nWhat is this?"}]},
      {"role": "assistant", "content": "A bus."}]}

`content` is text or a list of parts, which are joined in their order. A part is text (type `text`, `input_text` or
`output_text`) or a picture (type `image_url`, `input_image` or `image`), which becomes `<image>` in the text. A picture
is given by a path, a URL, or a `data:` URL in base64. `id` and `task` (or `skill`) may be absent.
Source: platform.openai.com/docs/guides/images-vision and /docs/api-reference/chat.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adapt_infinity.data.sample import IMAGE, Sample
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import decode_base64, list_pictures, optional_id, parse_turn, require_dict

JSON_LINES = True
TEXT_TYPES = ("text", "input_text", "output_text")
PICTURE_TYPES = ("image_url", "input_image", "image")


def parse(record: Any) -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("the record has no messages")
    images: list[str | bytes] = []
    turns = []
    for message in messages:
        message = require_dict(message)
        content = message.get("content")
        if isinstance(content, list):
            content = "".join([_part(part, images) for part in content])
        turns.append(parse_turn({**message, "content": content}, "role", "content"))
    return Conversation(
        source_id=optional_id(record),
        skill=optional_id(record, "task") or optional_id(record, "skill"),
        images=images,
        turns=turns,
    )


def write(sample: Sample, images: Sequence[str]) -> dict[str, Any]:
    """The record of a sample whose pictures lie at the paths `images`. `parse` returns the same turns."""
    remaining = iter(images)
    messages = [{"role": turn.role, "content": _content(turn.text, remaining)} for turn in sample.turns]
    return {"id": sample.source_id, "task": sample.skill, "source": sample.source, "messages": messages}


def _part(part: Any, images: list[str | bytes]) -> str:
    """The text of a part of a message. For a picture it is the placeholder, and the picture is added to `images`."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in TEXT_TYPES and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind not in PICTURE_TYPES:
        raise ValueError(f"a message has a part of type {kind!r}, neither text nor a picture")
    keys = ("image", "url", "path") if kind == "image" else ("image_url",)
    picture = next((part[key] for key in keys if part.get(key) is not None), None)
    if isinstance(picture, Mapping) and "url" in picture:
        picture = picture["url"]
    if isinstance(picture, str) and picture.startswith("data:"):
        header, _, encoded = picture.partition(",")
        if not header.endswith(";base64"):
            raise ValueError("a picture's data: URL is not in base64")
        picture = decode_base64(encoded)
    found = list_pictures(picture)
    if len(found) != 1:
        raise ValueError(f"a part of type {kind!r} has no picture")
    images.extend(found)
    return IMAGE


def _content(text: str, images: Any) -> Any:
    """The content of a message: its text, or, when it has placeholders, a list of text parts and picture parts."""
    if IMAGE not in text:
        return text
    parts: list[dict[str, Any]] = []
    for position, piece in enumerate(text.split(IMAGE)):
        if position:
            parts.append({"type": "image_url", "image_url": {"url": next(images)}})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts

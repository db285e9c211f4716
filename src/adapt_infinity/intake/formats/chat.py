r"""Chat messages, one record a line, as OpenAI's chat API and many trainers have them.

    {"id": "1", "task": "caption", "messages": [
      {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "coco/000000033471.jpg"}},
                                   {"type": "text", "text": "\nWhat is this?"}]},
      {"role": "assistant", "content": "A bus."}]}

`content` is text or a list of parts, which are joined as they stand: text (`text`, `input_text`, `output_text`) and
pictures (`image_url`, `input_image`, `image`), each of which becomes `<image>` where it stands. A picture is a path, a
URL, or a `data:` URL in base64. `id` and `task` (or `skill`) may be absent.
Source: platform.openai.com/docs/guides/images-vision and /docs/api-reference/chat.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adapt_infinity.data.sample import IMAGE, Sample
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import decoded, identifier, mapping, pictures, turn

JSON_LINES = True
TEXTS = ("text", "input_text", "output_text")
PICTURES = ("image_url", "input_image", "image")


def parse(record: Any) -> Conversation:
    """One conversation; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("the record has no messages")
    images: list[str | bytes] = []
    turns = []
    for message in messages:
        message = mapping(message)
        content = message.get("content")
        if isinstance(content, list):
            content = "".join([_part(part, images) for part in content])
        turns.append(turn({**message, "content": content}, "role", "content"))
    return Conversation(
        source_id=identifier(record),
        skill=identifier(record, "task") or identifier(record, "skill"),
        images=images,
        turns=turns,
    )


def write(sample: Sample, images: Sequence[str]) -> dict[str, Any]:
    """The record of a sample whose pictures lie at `images`; `parse` gives the same turns back."""
    left = iter(images)
    messages = [{"role": turn.role, "content": _content(turn.text, left)} for turn in sample.turns]
    return {"id": sample.source_id, "task": sample.skill, "source": sample.source, "messages": messages}


def _part(part: Any, images: list[str | bytes]) -> str:
    """The text of a part; a picture is added to `images`."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in TEXTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind not in PICTURES:
        raise ValueError(f"a message has a part of type {kind!r}, neither text nor a picture")
    keys = ("image", "url", "path") if kind == "image" else ("image_url",)
    shown = next((part[key] for key in keys if part.get(key) is not None), None)
    if isinstance(shown, Mapping) and "url" in shown:
        shown = shown["url"]
    if isinstance(shown, str) and shown.startswith("data:"):
        header, _, encoded = shown.partition(",")
        if not header.endswith(";base64"):
            raise ValueError("a picture's data: URL is not in base64")
        shown = decoded(encoded)
    found = pictures(shown)
    if len(found) != 1:
        raise ValueError(f"a part of type {kind!r} has no picture")
    images.extend(found)
    return IMAGE


def _content(text: str, images: Any) -> Any:
    """The text, cut at its placeholders into parts; plain where it has none."""
    if IMAGE not in text:
        return text
    parts: list[dict[str, Any]] = []
    for position, piece in enumerate(text.split(IMAGE)):
        if position:
            parts.append({"type": "image_url", "image_url": {"url": next(images)}})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts

r"""LLaVA's JSON: a list of records, turns alternating between "human" and "gpt".

    {"id": "000000033471", "image": "coco/000000033471.jpg", "task": "caption",
     "conversations": [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A bus."}]}

`image` is a path, a list of paths, or absent; `task` (our name for the skill) may be absent.
Source: github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md.
"""

from collections.abc import Mapping
from typing import Any

from adapt_infinity.formats import Conversation

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


def parse(record: Any) -> Conversation:
    """One record; `ValueError` says what is missing or malformed."""
    if not isinstance(record, Mapping):
        raise ValueError("the record is not an object")
    if "id" not in record:
        raise ValueError("the record has no id")
    conversations = record.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        raise ValueError("the record has no conversations")
    return Conversation(
        source_id=str(record["id"]),
        skill=str(record.get("task") or ""),
        images=_images(record.get("image")),
        turns=[_turn(turn) for turn in conversations],
    )


def _images(image: Any) -> list[str]:
    if image is None or image == "":
        return []
    listed = image if isinstance(image, list) else [image]
    if not all(isinstance(name, str) for name in listed):
        raise ValueError("image is neither a path nor a list of paths")
    return list(listed)


def _turn(turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("value"), str):
        raise ValueError("a turn has no text")
    if turn.get("from") not in ROLES:
        raise ValueError(f"a turn is spoken by {turn.get('from')!r}, neither human nor gpt")
    return {"role": ROLES[turn["from"]], "text": turn["value"]}

r"""LLaVA: a list of records (or one per line), each with turns that alternate between "human" and "gpt".

    {"id": "000000033471", "image": "coco/000000033471.jpg", "task": "caption",
     "conversations": [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A bus."}]}

`image` is a path, a list of paths, or absent. `task` is the skill and may be absent (LLaVA's own files lack it).
Source: github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md.
"""

from collections.abc import Sequence
from typing import Any

from adapt_infinity.data.sample import Sample
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import list_pictures, optional_id, parse_turns, require_dict

SPEAKER_OF_ROLE = {"user": "human", "assistant": "gpt"}


def parse(record: Any) -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    return Conversation(
        source_id=optional_id(record),
        skill=str(record.get("task") or ""),
        images=list_pictures(record.get("image")),
        turns=parse_turns(record.get("conversations"), "conversations", "from", "value"),
    )


def write(sample: Sample, images: Sequence[str]) -> dict[str, Any]:
    """The record of a sample whose pictures lie at the paths `images`."""
    record: dict[str, Any] = {"id": sample.source_id, "task": sample.skill, "source": sample.source}
    if images:
        record["image"] = images[0] if len(images) == 1 else list(images)
    record["conversations"] = [{"from": SPEAKER_OF_ROLE[turn.role], "value": turn.text} for turn in sample.turns]
    return record

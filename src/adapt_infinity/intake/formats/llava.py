r"""LLaVA's JSON: a list of records (or one a line), turns alternating between "human" and "gpt".

    {"id": "000000033471", "image": "coco/000000033471.jpg", "task": "caption",
     "conversations": [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A bus."}]}

`image` is a path, a list of paths, or absent; `task` (our name for the skill) may be absent.
Source: github.com/haotian-liu/LLaVA, docs/Finetune_Custom_Data.md.
"""

from collections.abc import Sequence
from typing import Any

from adapt_infinity.data.sample import Sample
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import identifier, mapping, pictures, turns

SPEAKERS = {"user": "human", "assistant": "gpt"}


def parse(record: Any) -> Conversation:
    """One record; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    return Conversation(
        source_id=identifier(record),
        skill=str(record.get("task") or ""),
        images=pictures(record.get("image")),
        turns=turns(record.get("conversations"), "conversations", "from", "value"),
    )


def write(sample: Sample, images: Sequence[str]) -> dict[str, Any]:
    """The record of a sample whose pictures lie at `images`."""
    record: dict[str, Any] = {"id": sample.source_id, "task": sample.skill, "source": sample.source}
    if images:
        record["image"] = images[0] if len(images) == 1 else list(images)
    record["conversations"] = [{"from": SPEAKERS[turn.role], "value": turn.text} for turn in sample.turns]
    return record

r"""ShareGPT's conversations with pictures, as LLaMA-Factory has them.

    {"conversations": [{"from": "human", "value": "<image>Who are they?"}, {"from": "gpt", "value": "Two players."}],
     "system": "You are brief.", "images": ["photos/1.jpg"]}

The turns are under `conversations` (from and value) or `messages` (role and content); `system`, `images`, `id` and
`task` may be absent. Records with videos, sounds or calls of tools are refused.
Source: data/README.md of github.com/hiyouga/LLaMA-Factory.
"""

from collections.abc import Sequence
from typing import Any

from adapt_infinity.data.sample import Sample
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import identifier, mapping, pictures, speeches, text

SPEAKERS = {"user": "human", "assistant": "gpt"}


def parse(record: Any) -> Conversation:
    """One conversation; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    for other in ("videos", "audios"):
        if record.get(other):
            raise ValueError(f"the record has {other}, which are not read")
    turns = speeches(record, "conversations", "messages")
    if record.get("system"):
        turns.insert(0, {"role": "system", "text": text(record, "system")})
    return Conversation(
        source_id=identifier(record),
        skill=identifier(record, "task"),
        images=pictures(record.get("images")),
        turns=turns,
    )


def write(sample: Sample, images: Sequence[str]) -> dict[str, Any]:
    """The record of a sample whose pictures lie at `images`."""
    record: dict[str, Any] = {"id": sample.source_id, "task": sample.skill, "source": sample.source}
    record["conversations"] = [{"from": SPEAKERS[turn.role], "value": turn.text} for turn in sample.turns]
    record["images"] = list(images)
    return record

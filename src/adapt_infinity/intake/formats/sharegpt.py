r"""ShareGPT: conversations with pictures, as in LLaMA-Factory.

    {"conversations": [{"from": "human", "value": "<image>Who are they?"}, {"from": "gpt", "value": "Two players."}],
     "system": "You are brief.", "images": ["photos/1.jpg"]}

The turns are under `conversations` (from and value) or `messages` (role and content); `system`, `images`, `id` and
`task` may be absent. Records with videos, sounds or tool calls are refused.
Source: data/README.md of github.com/hiyouga/LLaMA-Factory.
"""

from collections.abc import Sequence
from typing import Any

from adapt_infinity.data.sample import Sample
from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import find_turns, list_pictures, optional_id, require_dict, require_text

SPEAKER_OF_ROLE = {"user": "human", "assistant": "gpt"}


def parse(record: Any) -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    for other in ("videos", "audios"):
        if record.get(other):
            raise ValueError(f"the record has {other}, which are not supported")
    turns = find_turns(record, "conversations", "messages")
    if record.get("system"):
        turns.insert(0, {"role": "system", "text": require_text(record, "system")})
    return Conversation(
        source_id=optional_id(record),
        skill=optional_id(record, "task"),
        images=list_pictures(record.get("images")),
        turns=turns,
    )


def write(sample: Sample, images: Sequence[str]) -> dict[str, Any]:
    """The record of a sample whose pictures lie at the paths `images`."""
    record: dict[str, Any] = {"id": sample.source_id, "task": sample.skill, "source": sample.source}
    record["conversations"] = [{"from": SPEAKER_OF_ROLE[turn.role], "value": turn.text} for turn in sample.turns]
    record["images"] = list(images)
    return record

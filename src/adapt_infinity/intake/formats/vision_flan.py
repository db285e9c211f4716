r"""Vision-Flan: LLaVA's turns, and the name of one of 191 tasks.

    {"id": "VQAv2+weather_0", "image": "VQAv2+weather_0.jpg", "task_name": "VQAv2+weather",
     "conversations": [{"from": "human", "value": "<image>\nIs it raining?"}, {"from": "gpt", "value": "no"}]}

`task_name` is the skill.
Source: annotation_191-task_1k.json of huggingface.co/datasets/Vision-Flan/vision-flan_191-task_1k; Xu et al. 2024,
arXiv:2402.11690.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import find_turns, list_pictures, optional_id, require_dict


def parse(record: Any) -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    return Conversation(
        source_id=optional_id(record),
        skill=optional_id(record, "task_name"),
        images=list_pictures(record.get("image")),
        turns=find_turns(record, "conversations"),
    )

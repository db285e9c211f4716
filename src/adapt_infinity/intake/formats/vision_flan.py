r"""Vision-Flan: LLaVA's turns, and the name of the task, of which there are 191.

    {"id": "VQAv2+weather_0", "image": "VQAv2+weather_0.jpg", "task_name": "VQAv2+weather",
     "conversations": [{"from": "human", "value": "<image>\nIs it raining?"}, {"from": "gpt", "value": "no"}]}

`task_name` is the skill.
Source: annotation_191-task_1k.json of huggingface.co/datasets/Vision-Flan/vision-flan_191-task_1k; Xu et al. 2024,
arXiv:2402.11690.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import identifier, mapping, pictures, speeches


def parse(record: Any) -> Conversation:
    """One conversation; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    return Conversation(
        source_id=identifier(record),
        skill=identifier(record, "task_name"),
        images=pictures(record.get("image")),
        turns=speeches(record, "conversations"),
    )

r"""LAMM's instructions about pictures: LLaVA's turns without placeholders, and what kind of task it is.

    {"id": "000000033471", "image": "coco_images/000000033471.jpg", "task_type": "detailed_description",
     "conversations": [{"from": "human", "value": "Describe the picture."}, {"from": "gpt", "value": "A red bus …"}]}

Where no turn places them, the pictures are put before the first question; `task_type` is the skill. Records about point
clouds (`pcl`) are refused.
Source: 2D_Instruct/meta_file of github.com/OpenGVLab/LAMM; Yin et al. 2023, arXiv:2306.06687.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import identifier, mapping, pictures, placed, speeches


def parse(record: Any) -> Conversation:
    """One conversation; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    if record.get("pcl"):
        raise ValueError("the record is about a point cloud, which is no picture")
    images = pictures(record.get("image"))
    turns = placed(speeches(record, "conversations"), len(images))
    return Conversation(source_id=identifier(record), skill=identifier(record, "task_type"), images=images, turns=turns)

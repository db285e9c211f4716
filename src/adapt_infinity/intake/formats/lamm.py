r"""LAMM's instructions about pictures: LLaVA's turns without placeholders, and the type of the task.

    {"id": "000000033471", "image": "coco_images/000000033471.jpg", "task_type": "detailed_description",
     "conversations": [{"from": "human", "value": "Describe the picture."}, {"from": "gpt", "value": "A red bus …"}]}

When no turn has a placeholder, the pictures are put before the first question. `task_type` is the skill. Records about
point clouds (`pcl`) are refused.
Source: 2D_Instruct/meta_file of github.com/OpenGVLab/LAMM; Yin et al. 2023, arXiv:2306.06687.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import find_turns, list_pictures, optional_id, place_pictures, require_dict


def parse(record: Any) -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    if record.get("pcl"):
        raise ValueError("the record is about a point cloud, not about a picture")
    images = list_pictures(record.get("image"))
    turns = place_pictures(find_turns(record, "conversations"), len(images))
    return Conversation(
        source_id=optional_id(record), skill=optional_id(record, "task_type"), images=images, turns=turns
    )

r"""MiniGPT-4's second training stage: pictures with a long description, and without a question.

    {"annotations": [{"image_id": "2", "caption": "The image shows a red barn …"}]}

The picture is `image/2.jpg`. The question is one of five wordings of ours, chosen by a hash of the id, so that a record
always gets the same question.
Source: filter_cap.json of huggingface.co/datasets/Vision-CAIR/cc_sbu_align; Zhu et al. 2023, arXiv:2304.10592.
"""

import hashlib
from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import fill_path, make_turns, require_dict, require_id, require_text

LIST_KEY = "annotations"
QUESTIONS = (
    "What can be seen here? Tell me everything that matters.",
    "Please give a thorough account of this picture.",
    "Describe the picture to someone who cannot see it.",
    "What does this picture show, in detail?",
    "Write a full description of what you see.",
)


def parse(record: Any, image: str = "image/{image_id}.jpg") -> Conversation:
    """One description. `image` is the template of its picture's path."""
    record = require_dict(record)
    image_id = require_id(record, "image_id")
    number = int.from_bytes(hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return Conversation(
        source_id=image_id,
        skill="",
        images=[fill_path(image, record)],
        turns=make_turns(QUESTIONS[number % len(QUESTIONS)], require_text(record, "caption"), pictures=1),
    )

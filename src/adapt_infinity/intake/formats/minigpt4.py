r"""MiniGPT-4's second stage: pictures with a long description, and no question.

    {"annotations": [{"image_id": "2", "caption": "The image shows a red barn …"}]}

The picture is `image/2.jpg`. The question is drawn from a few wordings of ours by a hash of the id, so that a record
asks the same whenever it is read.
Source: filter_cap.json of huggingface.co/datasets/Vision-CAIR/cc_sbu_align; Zhu et al. 2023, arXiv:2304.10592.
"""

import hashlib
from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import exchange, filled, mapping, name, text

LIST_KEY = "annotations"
QUESTIONS = (
    "What can be seen here? Tell me everything that matters.",
    "Please give a thorough account of this picture.",
    "Describe the picture to someone who cannot see it.",
    "What does this picture show, in detail?",
    "Write a full description of what you see.",
)


def parse(record: Any, image: str = "image/{image_id}.jpg") -> Conversation:
    """One description; `image` is where its picture lies."""
    record = mapping(record)
    image_id = name(record, "image_id")
    drawn = int.from_bytes(hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return Conversation(
        source_id=image_id,
        skill="",
        images=[filled(image, record)],
        turns=exchange(QUESTIONS[drawn % len(QUESTIONS)], text(record, "caption"), pictures=1),
    )

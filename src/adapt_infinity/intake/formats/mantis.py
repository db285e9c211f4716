r"""Mantis-Instruct: conversations about several pictures, `<image>` wherever one of them belongs.

    {"id": "nlvr2_0",
     "images": [{"bytes": null, "path": "nlvr2/0-img0.png"}, {"bytes": null, "path": "nlvr2/0-img1.png"}],
     "conversation": [{"role": "user", "content": "<image> <image> Are both dogs asleep?"},
                      {"role": "assistant", "content": "No."}]}

`images` is a list of paths or of Hugging Face's pictures, or null; `conversations` with from and value, as the
project's own files have it, is read too. `skill` names the field that holds the skill, if one does.
Source: huggingface.co/datasets/TIGER-Lab/Mantis-Instruct and data/README.md of github.com/TIGER-AI-Lab/Mantis;
Jiang et al. 2024, arXiv:2405.01483.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import identifier, mapping, pictures, speeches


def parse(record: Any, skill: str = "") -> Conversation:
    """One conversation; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    return Conversation(
        source_id=identifier(record),
        skill=identifier(record, skill) if skill else "",
        images=pictures(record.get("images")),
        turns=speeches(record, "conversation", "conversations"),
    )

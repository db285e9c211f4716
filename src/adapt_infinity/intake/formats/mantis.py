r"""Mantis-Instruct: conversations about several pictures, with `<image>` for each in the text.

    {"id": "nlvr2_0",
     "images": [{"bytes": null, "path": "nlvr2/0-img0.png"}, {"bytes": null, "path": "nlvr2/0-img1.png"}],
     "conversation": [{"role": "user", "content": "<image> <image> Are both dogs asleep?"},
                      {"role": "assistant", "content": "No."}]}

`images` is a list of paths or of pictures as Hugging Face stores them, or null. The turns may also be under
`conversations` with from and value, as in the files of Mantis's own repository. The option `skill` is the name of the
field that holds the skill, if there is one.
Source: huggingface.co/datasets/TIGER-Lab/Mantis-Instruct and data/README.md of github.com/TIGER-AI-Lab/Mantis;
Jiang et al. 2024, arXiv:2405.01483.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import find_turns, list_pictures, optional_id, require_dict


def parse(record: Any, skill: str = "") -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    return Conversation(
        source_id=optional_id(record),
        skill=optional_id(record, skill) if skill else "",
        images=list_pictures(record.get("images")),
        turns=find_turns(record, "conversation", "conversations"),
    )

r"""M3IT: an instruction, its input and output, and pictures in base64, without placeholders.

    {"instruction": "Answer the question about the picture.", "inputs": "Who is waiting?",
     "image_base64_str": ["/9j/4AAQSkZJRg…"], "outputs": "The man by the bags."}

`image_base64_str` is a text, a list of texts (for example the frames of a video), or absent; `inputs` may be empty. The
pictures are put before the instruction. A record has no id and no skill, so intake numbers it and names its skill after
the source.
Source: huggingface.co/datasets/MMInstruction/M3IT; Li et al. 2023, arXiv:2306.04387.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import decode_base64, make_turns, require_dict, require_text


def parse(record: Any) -> Conversation:
    """The conversation in a record; `ValueError` says what is missing or malformed."""
    record = require_dict(record)
    encoded = record.get("image_base64_str") or []
    images: list[str | bytes] = [decode_base64(one) for one in (encoded if isinstance(encoded, list) else [encoded])]
    inputs = "" if record.get("inputs") is None else require_text(record, "inputs")
    question = "\n".join(part for part in (require_text(record, "instruction"), inputs) if part)
    return Conversation(
        source_id="",
        skill="",
        images=images,
        turns=make_turns(question, require_text(record, "outputs"), len(images)),
    )

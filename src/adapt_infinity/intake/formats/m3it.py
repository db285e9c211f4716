r"""M3IT's rows: an instruction, its input, its output, and pictures in base64; no placeholder says where they stand.

    {"instruction": "Answer the question about the picture.", "inputs": "Who is waiting?",
     "image_base64_str": ["/9j/4AAQSkZJRg…"], "outputs": "The man by the bags."}

`image_base64_str` is a text, a list of texts (several frames of a video, say), or absent; `inputs` may be empty. The
pictures are put before the instruction. A row has neither id nor skill: it is called by its place and its source.
Source: huggingface.co/datasets/MMInstruction/M3IT; Li et al. 2023, arXiv:2306.04387.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import decoded, exchange, mapping, text


def parse(record: Any) -> Conversation:
    """One row; `ValueError` says what is missing or malformed."""
    record = mapping(record)
    encoded = record.get("image_base64_str") or []
    images: list[str | bytes] = [decoded(one) for one in (encoded if isinstance(encoded, list) else [encoded])]
    inputs = "" if record.get("inputs") is None else text(record, "inputs")
    question = "\n".join(part for part in (text(record, "instruction"), inputs) if part)
    return Conversation(
        source_id="", skill="", images=images, turns=exchange(question, text(record, "outputs"), len(images))
    )

r"""Rows of Hugging Face's `datasets` in Parquet or Arrow files; the options name the columns.

    {"id": "7", "image": {"bytes": b"\x89PNG…", "path": null},
     "question": "What colour is it?", "answer": ["red", "dark red"]}

`image` is a picture, a list of pictures, a path, or null, and the column may be missing. When the answer is a list (of
texts, or of `{"answer": text}`), the first is the answer and all are references. With the option `messages`, that
column holds the turns (role and content, or from and value), and `question` and `answer` are not read. When the text
has no placeholder, the pictures are put before the first question. `hint` is added to every question.
Source: huggingface.co/docs/datasets, "Image feature": a picture is stored as bytes and path.
"""

import math
from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import (
    find_turns,
    list_answers,
    list_pictures,
    make_turns,
    optional_id,
    place_pictures,
    require_dict,
    require_text,
)


def parse(
    record: Any,
    id: str = "id",
    image: str = "image",
    question: str = "question",
    answer: str = "answer",
    skill: str = "",
    messages: str = "",
    hint: str = "",
) -> Conversation:
    """The conversation in a row. Every option but `hint` is the name of a column, or "" when there is none."""
    record = require_dict(record)
    images = list_pictures(record.get(image))
    references: list[str] = []
    if messages:
        turns = place_pictures(find_turns(record, messages), len(images))
    else:
        value = record.get(answer)
        if type(value) is int or (isinstance(value, float) and math.isfinite(value)):
            value = str(value)
        references = list_answers(value) if isinstance(value, list) else []
        reply = references[0] if references else require_text({answer: value}, answer)
        turns = make_turns(require_text(record, question), reply, len(images), hint)
    return Conversation(
        source_id=optional_id(record, id),
        skill=optional_id(record, skill) if skill else "",
        images=images,
        turns=turns,
        references=references,
    )

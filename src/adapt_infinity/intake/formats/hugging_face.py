r"""Rows of Hugging Face's `datasets` as they lie on disk, Parquet or Arrow; the options name the columns.

    {"id": "7", "image": {"bytes": b"\x89PNG…", "path": null},
     "question": "What colour is it?", "answer": ["red", "dark red"]}

`image` is a picture, a list of pictures, a path, or null, and the column may be missing. An answer that is a list (of
texts, or of `{"answer": text}`) trains with its first and grades with all. With `messages` that column holds the turns
(role and content, or from and value) and `question` and `answer` are not read. Pictures that the text does not place
are put before the first question. `hint` is added to every question.
Source: huggingface.co/docs/datasets, "Image feature": a picture is stored as bytes and path.
"""

import math
from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, exchange, identifier, mapping, pictures, placed, speeches, text


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
    """One row; every option but `hint` is the name of a column, "" for one that there is not."""
    record = mapping(record)
    images = pictures(record.get(image))
    references: list[str] = []
    if messages:
        turns = placed(speeches(record, messages), len(images))
    else:
        said = record.get(answer)
        if type(said) is int or (isinstance(said, float) and math.isfinite(said)):
            said = str(said)
        references = answers(said) if isinstance(said, list) else []
        reply = references[0] if references else text({answer: said}, answer)
        turns = exchange(text(record, question), reply, len(images), hint)
    return Conversation(
        source_id=identifier(record, id),
        skill=identifier(record, skill) if skill else "",
        images=images,
        turns=turns,
        references=references,
    )

r"""VQAv2: an annotation joined with its question (the two lie in files of their own).

    {"question_id": 458752000, "image_id": 458752, "question": "What is this photo taken looking through?",
     "multiple_choice_answer": "net", "answers": [{"answer": "net", "answer_confidence": "maybe", "answer_id": 1}, …]}

`question` comes from the questions file, by `join: {under: questions, on: question_id}` of the source. What most people
said is the answer; what all ten said are the references.
Source: visualqa.org/download.html; Goyal et al. 2017, arXiv:1612.00837.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, exchange, filled, mapping, name, text

LIST_KEY = "annotations"


def parse(record: Any, image: str = "train2014/COCO_train2014_{image_id:012d}.jpg", hint: str = "") -> Conversation:
    """One question; `image` is where its picture lies, `hint` is added to the question."""
    record = mapping(record)
    return Conversation(
        source_id=name(record, "question_id"),
        skill="",
        images=[filled(image, record)],
        turns=exchange(text(record, "question"), text(record, "multiple_choice_answer"), 1, hint),
        references=answers(record.get("answers")),
    )

r"""VQAv2: questions about photos, with ten answers each. Annotations and questions are in different files.

    {"question_id": 458752000, "image_id": 458752, "question": "What is this photo taken looking through?",
     "multiple_choice_answer": "net", "answers": [{"answer": "net", "answer_confidence": "maybe", "answer_id": 1}, …]}

`question` comes from the file of questions, by `join: {under: questions, by: question_id, …}` of the source. The most
frequent of the ten answers is the answer, and all ten are the references.
Source: visualqa.org/download.html; Goyal et al. 2017, arXiv:1612.00837.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import fill_path, list_answers, make_turns, require_dict, require_id, require_text

LIST_KEY = "annotations"


def parse(record: Any, image: str = "train2014/COCO_train2014_{image_id:012d}.jpg", hint: str = "") -> Conversation:
    """One question. `image` is the template of its picture's path; `hint` is added to the question."""
    record = require_dict(record)
    return Conversation(
        source_id=require_id(record, "question_id"),
        skill="",
        images=[fill_path(image, record)],
        turns=make_turns(require_text(record, "question"), require_text(record, "multiple_choice_answer"), 1, hint),
        references=list_answers(record.get("answers")),
    )

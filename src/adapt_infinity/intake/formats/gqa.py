r"""GQA: compositional questions about photos, with answers of one or two words.

    {"02930152": {"imageId": "2354786", "question": "Is the sky dark?", "answer": "yes",
                  "fullAnswer": "Yes, the sky is dark.", "isBalanced": true}}

With `full: true` the answer is the full sentence.
Source: {train,val,testdev}_balanced_questions.json of cs.stanford.edu/people/dorarad/gqa; Hudson & Manning 2019,
arXiv:1902.09506.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import fill_path, make_turns, require_dict, require_id, require_text

RECORDS_BY_KEY = True


def parse(record: Any, image: str = "images/{imageId}.jpg", full: bool = False, hint: str = "") -> Conversation:
    """One question. `image` is the template of its picture's path; `hint` is added to the question."""
    record = require_dict(record)
    question = require_dict(record.get("value"))
    return Conversation(
        source_id=require_id(record, "key"),
        skill="",
        images=[fill_path(image, question)],
        turns=make_turns(
            require_text(question, "question"), require_text(question, "fullAnswer" if full else "answer"), 1, hint
        ),
    )

r"""GQA: compositional questions about photos, with an answer of a word or two.

    {"02930152": {"imageId": "2354786", "question": "Is the sky dark?", "answer": "yes",
                  "fullAnswer": "Yes, the sky is dark.", "isBalanced": true}}

With `full: true` the answer is the whole sentence.
Source: {train,val,testdev}_balanced_questions.json of cs.stanford.edu/people/dorarad/gqa; Hudson & Manning 2019,
arXiv:1902.09506.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import exchange, filled, mapping, name, text

RECORDS_BY_KEY = True


def parse(record: Any, image: str = "images/{imageId}.jpg", full: bool = False, hint: str = "") -> Conversation:
    """One question; `image` is where its picture lies, `hint` is added to the question."""
    record = mapping(record)
    asked = mapping(record.get("value"))
    return Conversation(
        source_id=name(record, "key"),
        skill="",
        images=[filled(image, asked)],
        turns=exchange(text(asked, "question"), text(asked, "fullAnswer" if full else "answer"), 1, hint),
    )

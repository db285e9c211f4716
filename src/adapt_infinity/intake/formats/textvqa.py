r"""TextVQA: questions that are answered by reading the picture.

    {"data": [{"question_id": 0, "image_id": "0054c91397f2fe05", "question": "what is the brand of phone?",
               "answers": ["nokia", "nokia", "nokia", "toshiba", …]}]}

What most people said is the answer; what all ten said are the references. The test file has no answers.
Source: TextVQA_0.5.1_{train,val}.json of textvqa.org/dataset; Singh et al. 2019, arXiv:1904.08920.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, commonest, exchange, filled, mapping, name, text

LIST_KEY = "data"


def parse(record: Any, image: str = "train_images/{image_id}.jpg", hint: str = "") -> Conversation:
    """One question; `image` is where its picture lies, `hint` is added to the question."""
    record = mapping(record)
    said = answers(record.get("answers"))
    return Conversation(
        source_id=name(record, "question_id"),
        skill="",
        images=[filled(image, record)],
        turns=exchange(text(record, "question"), commonest(said), 1, hint),
        references=said,
    )

r"""VizWiz-VQA: what blind people asked about photos that they took; one question a photo.

    {"image": "VizWiz_train_00000000.jpg", "question": "What's the name of this product?", "answerable": 1,
     "answer_type": "other", "answers": [{"answer": "basil leaves", "answer_confidence": "yes"}, …]}

What most people said is the answer ("unanswerable" is one of them); what all ten said are the references.
Source: train.json and val.json of vizwiz.org/tasks-and-datasets/vqa; Gurari et al. 2018, arXiv:1802.08218.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, commonest, exchange, filled, mapping, name, text


def parse(record: Any, image: str = "train/{image}", hint: str = "") -> Conversation:
    """One question; `image` is where its picture lies, `hint` is added to the question."""
    record = mapping(record)
    said = answers(record.get("answers"))
    return Conversation(
        source_id=name(record, "image"),
        skill="",
        images=[filled(image, record)],
        turns=exchange(text(record, "question"), commonest(said), 1, hint),
        references=said,
    )

r"""VizWiz-VQA: questions of blind people about photos that they took, one per photo.

    {"image": "VizWiz_train_00000000.jpg", "question": "What's the name of this product?", "answerable": 1,
     "answer_type": "other", "answers": [{"answer": "basil leaves", "answer_confidence": "yes"}, …]}

The most frequent of the ten answers is the answer (it may be "unanswerable"), and all ten are the references.
Source: train.json and val.json of vizwiz.org/tasks-and-datasets/vqa; Gurari et al. 2018, arXiv:1802.08218.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation, parse_vqa


def parse(record: Any, image: str = "train/{image}", hint: str = "") -> Conversation:
    """One question. `image` is the template of its picture's path; `hint` is added to the question."""
    return parse_vqa(record, "image", image, hint)

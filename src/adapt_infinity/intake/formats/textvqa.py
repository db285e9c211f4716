r"""TextVQA: questions that are answered by reading text in the picture.

    {"data": [{"question_id": 0, "image_id": "0054c91397f2fe05", "question": "what is the brand of phone?",
               "answers": ["nokia", "nokia", "nokia", "toshiba", …]}]}

The most frequent of the ten answers is the answer, and all ten are the references. The test file has no answers.
Source: TextVQA_0.5.1_{train,val}.json of textvqa.org/dataset; Singh et al. 2019, arXiv:1904.08920.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation, parse_vqa

LIST_KEY = "data"


def parse(record: Any, image: str = "train_images/{image_id}.jpg", hint: str = "") -> Conversation:
    """One question. `image` is the template of its picture's path; `hint` is added to the question."""
    return parse_vqa(record, "question_id", image, hint)

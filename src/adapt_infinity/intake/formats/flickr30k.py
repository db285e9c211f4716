r"""Flickr30k in Karpathy's split: five captions a photo, all splits in one file.

    {"images": [{"filename": "1000092795.jpg", "imgid": 0, "split": "train",
                 "sentences": [{"raw": "Two young men in a yard."}, {"raw": "Two friends outside."}, …]}]}

Every caption is a conversation of its own; with `every: false` a photo comes once, with its first caption as the answer
and all as references: test so. Photos of other splits (train, val, test) than the wanted one yield nothing.
Source: dataset_flickr30k.json of cs.stanford.edu/people/karpathy/deepimagesent; Young et al. 2014, "From image
descriptions to visual denotations"; Karpathy & Fei-Fei 2015, arXiv:1412.2306.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, exchange, filled, mapping, name, text

LIST_KEY = "images"
QUESTION = "Describe this picture in one sentence."


def parse(
    record: Any,
    split: str = "train",
    every: bool = True,
    image: str = "flickr30k-images/{filename}",
    question: str = QUESTION,
) -> list[Conversation]:
    """The captions of one photo; `image` is where it lies, `question` what is asked about it."""
    record = mapping(record)
    if text(record, "split") != split:
        return []
    sentences = record.get("sentences")
    captions = answers([mapping(one).get("raw") for one in sentences] if isinstance(sentences, list) else None)
    photo, images = name(record, "imgid"), [filled(image, record)]
    if not every:
        return [Conversation(photo, "", [*images], exchange(question, captions[0], 1), captions)]
    return [
        Conversation(f"{photo}_{number}", "", [*images], exchange(question, caption, 1))
        for number, caption in enumerate(captions)
    ]

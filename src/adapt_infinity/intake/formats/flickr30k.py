r"""Flickr30k in Karpathy's split: photos with five captions each, and all splits in one file.

    {"images": [{"filename": "1000092795.jpg", "imgid": 0, "split": "train",
                 "sentences": [{"raw": "Two young men in a yard."}, {"raw": "Two friends outside."}, …]}]}

Every caption is one conversation. With `every: false`, which is meant for tests, a photo is one conversation, with its
first caption as the answer and all captions as references. Photos of other splits (train, val, test) than `split` are
skipped.
Source: dataset_flickr30k.json of cs.stanford.edu/people/karpathy/deepimagesent; Young et al. 2014, "From image
descriptions to visual denotations"; Karpathy & Fei-Fei 2015, arXiv:1412.2306.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import fill_path, list_answers, make_turns, require_dict, require_id, require_text

LIST_KEY = "images"
QUESTION = "Describe this picture in one sentence."


def parse(
    record: Any,
    split: str = "train",
    every: bool = True,
    image: str = "flickr30k-images/{filename}",
    question: str = QUESTION,
) -> list[Conversation]:
    """The captions of one photo. `image` is the template of its path, `question` the question of every conversation."""
    record = require_dict(record)
    if require_text(record, "split") != split:
        return []
    sentences = record.get("sentences")
    captions = list_answers(
        [require_dict(one).get("raw") for one in sentences] if isinstance(sentences, list) else None
    )
    photo, images = require_id(record, "imgid"), [fill_path(image, record)]
    if not every:
        return [Conversation(photo, "", [*images], make_turns(question, captions[0], 1), captions)]
    return [
        Conversation(f"{photo}_{number}", "", [*images], make_turns(question, caption, 1))
        for number, caption in enumerate(captions)
    ]

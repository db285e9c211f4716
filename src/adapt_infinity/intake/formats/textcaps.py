r"""TextCaps: captions that mention the text in the picture; five per picture, one per record.

    {"data": [{"image_id": "c8cce87ba2b3a3c8", "caption_id": 19, "caption_str": "A bottle of ink by Noodler's.",
               "reference_strs": ["A bottle of ink by Noodler's.", "The label says Apache Sunset.", …]}]}

With `every: false`, which is meant for tests, a picture is one conversation, with its first caption as the answer and
all captions as references.
Source: TextCaps_0.1_{train,val}.json of textvqa.org/textcaps; Sidorov et al. 2020, arXiv:2003.12462.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import fill_path, list_answers, make_turns, require_dict, require_id, require_text

LIST_KEY = "data"
QUESTION = "Describe this picture in one sentence. Mention what is written in it."


def parse(
    record: Any, image: str = "train_images/{image_id}.jpg", question: str = QUESTION, every: bool = True
) -> list[Conversation]:
    """One caption, or an empty list when `every` is false and it is not the first caption of its picture."""
    record = require_dict(record)
    caption = require_text(record, "caption_str")
    references = list_answers(record.get("reference_strs"))
    if not every and caption != references[0]:
        return []
    return [
        Conversation(
            source_id=require_id(record, "caption_id" if every else "image_id"),
            skill="",
            images=[fill_path(image, record)],
            turns=make_turns(question, caption, pictures=1),
            references=references,
        )
    ]

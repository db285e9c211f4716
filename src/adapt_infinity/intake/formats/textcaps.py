r"""TextCaps: captions that need what is written in the picture; five captions a picture, one a record.

    {"data": [{"image_id": "c8cce87ba2b3a3c8", "caption_id": 19, "caption_str": "A bottle of ink by Noodler's.",
               "reference_strs": ["A bottle of ink by Noodler's.", "The label says Apache Sunset.", …]}]}

With `every: false` a picture comes once, with the first of its captions as the answer and all as references: test so.
Source: TextCaps_0.1_{train,val}.json of textvqa.org/textcaps; Sidorov et al. 2020, arXiv:2003.12462.
"""

from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, exchange, filled, mapping, name, text

LIST_KEY = "data"
QUESTION = "Describe this picture in one sentence. Mention what is written in it."


def parse(
    record: Any, image: str = "train_images/{image_id}.jpg", question: str = QUESTION, every: bool = True
) -> list[Conversation]:
    """One caption; none if `every` is false and it is not the first of its picture."""
    record = mapping(record)
    caption = text(record, "caption_str")
    references = answers(record.get("reference_strs"))
    if not every and caption != references[0]:
        return []
    return [
        Conversation(
            source_id=name(record, "caption_id" if every else "image_id"),
            skill="",
            images=[filled(image, record)],
            turns=exchange(question, caption, pictures=1),
            references=references,
        )
    ]

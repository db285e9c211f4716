r"""OCR-VQA: questions about the cover of a book; one book a record, all splits in one file.

    {"0000000123": {"imageURL": "http://ecx.images-amazon.com/images/I/51.jpg", "title": "Calendar 1995", "split": 1,
                    "questions": ["Who wrote this?", "What is the title?"], "answers": ["A. Writer", "Calendar 1995"]}}

Every question is a conversation of its own. `split` is 1 (train), 2 (validation) or 3 (test); books of other splits
than the wanted one yield nothing. A picture is called by its book, with the ending of its address.
Source: dataset.json of ocr-vqa.github.io; Mishra et al. 2019, "OCR-VQA: Visual Question Answering by Reading Text in
Images".
"""

from pathlib import PurePosixPath
from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import answers, exchange, filled, mapping, name, text

RECORDS_BY_KEY = True
SPLITS = {"train": 1, "validation": 2, "test": 3}


def parse(record: Any, split: str = "train", image: str = "images/{key}{ending}", hint: str = "") -> list[Conversation]:
    """The questions of one book; `image` is where its cover lies: `{key}` the book, `{ending}` ".jpg", say."""
    if split not in SPLITS:
        raise ValueError(f"ocr_vqa's split is {split!r}, neither {' nor '.join(SPLITS)}")
    key, book = name(mapping(record), "key"), mapping(mapping(record).get("value"))
    if name(book, "split") not in map(str, SPLITS.values()):
        raise ValueError(f"the book's split is {book['split']!r}, neither 1 nor 2 nor 3")
    if name(book, "split") != str(SPLITS[split]):
        return []
    questions, said = answers(book.get("questions")), answers(book.get("answers"))
    if len(questions) != len(said):
        raise ValueError(f"{len(questions)} questions but {len(said)} answers")
    cover = filled(image, {"key": key, "ending": PurePosixPath(text(book, "imageURL")).suffix})
    return [
        Conversation(f"{key}_{number}", "", [cover], exchange(question, answer, 1, hint))
        for number, (question, answer) in enumerate(zip(questions, said, strict=True))
    ]

r"""OCR-VQA: questions about the covers of books; one record per book, and all splits in one file.

    {"0000000123": {"imageURL": "http://ecx.images-amazon.com/images/I/51.jpg", "title": "Calendar 1995", "split": 1,
                    "questions": ["Who wrote this?", "What is the title?"], "answers": ["A. Writer", "Calendar 1995"]}}

Every question is one conversation. `split` of a record is 1 (train), 2 (validation) or 3 (test); books of other splits
than the option `split` are skipped. A picture's file name is the book's key with the file extension of `imageURL`.
Source: dataset.json of ocr-vqa.github.io; Mishra et al. 2019, "OCR-VQA: Visual Question Answering by Reading Text in
Images".
"""

from pathlib import PurePosixPath
from typing import Any

from adapt_infinity.intake.formats import Conversation
from adapt_infinity.intake.validators import fill_path, list_answers, make_turns, require_dict, require_id, require_text

RECORDS_BY_KEY = True
SPLITS = {"train": 1, "validation": 2, "test": 3}


def parse(record: Any, split: str = "train", image: str = "images/{key}{ending}", hint: str = "") -> list[Conversation]:
    """The questions of one book. `image` is the template of its cover's path, with `{key}` and `{ending}` (".jpg")."""
    if split not in SPLITS:
        raise ValueError(f"ocr_vqa's split is {split!r}, which is not one of {', '.join(SPLITS)}")
    record = require_dict(record)
    key, book = require_id(record, "key"), require_dict(record.get("value"))
    if require_id(book, "split") not in map(str, SPLITS.values()):
        raise ValueError(f"the book's split is {book['split']!r}, which is not 1, 2 or 3")
    if require_id(book, "split") != str(SPLITS[split]):
        return []
    questions, answers = list_answers(book.get("questions")), list_answers(book.get("answers"))
    if len(questions) != len(answers):
        raise ValueError(f"{len(questions)} questions but {len(answers)} answers")
    cover = fill_path(image, {"key": key, "ending": PurePosixPath(require_text(book, "imageURL")).suffix})
    return [
        Conversation(f"{key}_{number}", "", [cover], make_turns(question, answer, 1, hint))
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]

"""Record formats: one file per format turns its raw records into conversations. A format is named by its file.

A format has the function `parse(record, **options)`. It returns a `Conversation`, or a list of them where one record
holds several, and raises a `ValueError` with the reason for a record that it cannot read. The options have defaults;
`options:` of a source sets them. Further names are optional:

    LIST_KEY = "data"        the file is a JSON object, and the list of records lies under this key
    RECORDS_BY_KEY = True    the file is a JSON object whose values are the records, each read as {"key": …, "value": …}
    write(sample, pictures)  returns the record of a sample whose pictures lie at the paths `pictures`, for exports
    JSON_LINES = True        exported files have one record per line

A format does not open files and knows nothing of pools or models.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from adapt_infinity import registry
from adapt_infinity.intake.validators import (
    fill_path,
    list_answers,
    make_turns,
    most_frequent,
    require_dict,
    require_id,
    require_text,
)


@dataclass(frozen=True)
class Conversation:
    """A conversation as a raw record states it; its turns and pictures have not been checked."""

    source_id: str  # "" for a record without an id, which intake then names by its position in the file
    skill: str  # "" for a record without a skill, which then gets the name of its source
    images: list[str | bytes]  # the path or URL of each picture, or the bytes of its file
    turns: list[dict[str, str]]  # role ("system", "user" or "assistant") and text with `<image>` for each picture
    references: list[str] = field(default_factory=list)  # all correct answers of a test item that has several


Parse = Callable[[Any], Conversation | list[Conversation]]


def parse_vqa(record: Any, id_key: str, image: str, hint: str) -> Conversation:
    """One question about one picture with the answers of several people, as in VQA datasets.

    The most frequent answer is the answer, and all of them are the references. `image` is the template of the picture's
    path; `hint` is added to the question. `ValueError` for a field that is missing or of the wrong kind.
    """
    record = require_dict(record)
    answers = list_answers(record.get("answers"))
    return Conversation(
        source_id=require_id(record, id_key),
        skill="",
        images=[fill_path(image, record)],
        turns=make_turns(require_text(record, "question"), most_frequent(answers), 1, hint),
        references=answers,
    )


def names() -> list[str]:
    """The names of all formats."""
    return registry.names(__name__)


def module(name: str) -> ModuleType:
    """The module of the format `name`; `ValueError` lists the known formats."""
    return registry.module(__name__, name)


def load(name: str, options: Mapping[str, Any] | None = None) -> Parse:
    """The `parse` function of the format `name`, with its options set.

    `ValueError` for an unknown format or option; it lists the known ones.
    """
    parse: Parse = module(name).parse
    options = options or {}
    known = [key for key in inspect.signature(parse).parameters if key != "record"]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"format {name!r} has no option {unknown[0]!r}; its options: {', '.join(known) or 'none'}")
    return partial(parse, **options) if options else parse


def exporters() -> list[str]:
    """The names of the formats that have a `write` function."""
    return [name for name in names() if hasattr(module(name), "write")]

"""Raw record → conversations; one file a format, found by its file name.

A format has one function, `parse(record, **options)`, which returns a `Conversation`, or a list of them where one
record holds several, and raises `ValueError` with a reason for a record that it cannot read. `options` are keyword
arguments with defaults, set by `options:` of a source. Where the records lie in their file is said by two optional
names: `UNDER`, the key of a JSON object whose list they are, and `KEYED = True` for an object whose entries they are
(each then comes as `{"key": …, "value": …}`). A format that can be exported to has `write(sample, pictures) -> record`
too, and `LINES = True` if a file of it has one record a line. A format knows nothing of files, pools or models.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

from adapt_infinity import registry


@dataclass(frozen=True)
class Conversation:
    """What a raw record says, before anything is checked against the disk."""

    source_id: str  # "" where the record names none: it is then called by its place in the file
    skill: str  # "" where the record names none: it is then the source's
    images: list[str | bytes]  # a path or a URL, or an encoded picture itself
    turns: list[dict[str, str]]  # role ("system", "user" or "assistant") and text; `<image>` is a picture's place
    references: list[str] = field(default_factory=list)  # of a test item with several right answers: all of them


Parse = Callable[[Any], Conversation | list[Conversation]]


def names() -> list[str]:
    """Every format there is."""
    return registry.names(__name__)


def module(name: str) -> ModuleType:
    """The file of the format `name`; `ValueError` names the known ones."""
    return registry.module(__name__, name)


def load(name: str, options: Mapping[str, Any] | None = None) -> Parse:
    """The parse function of the format `name`; `ValueError` names the known formats, or the format's options."""
    parse: Parse = module(name).parse
    options = options or {}
    known = [key for key in inspect.signature(parse).parameters if key != "record"]
    strangers = sorted(set(options) - set(known))
    if strangers:
        offered = ", ".join(known) or "none"
        raise ValueError(f"format {name!r} has no option {strangers[0]!r}; its options: {offered}")
    return partial(parse, **options) if options else parse


def exporters() -> list[str]:
    """The formats that can be written."""
    return [name for name in names() if hasattr(module(name), "write")]

"""Docstrings on the API pages: aligned listings stay lines, and `<stage>` stays text, as in the source.

A docstring lists files or names in two columns, `name  what it is`. Markdown would join such lines into one paragraph;
indented, they are a block of code. Markdown would also take `<stage>` for a tag of HTML and show nothing.
"""

import re
from typing import Any

import griffe

ROW = re.compile(r"\S+( \S+){0,5} {2,}\S")  # words, at least two blanks, and what they mean


class Listings(griffe.Extension):
    """Indent every paragraph of a docstring that is such a listing."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring in place."""
        if obj.docstring is not None:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(indented, paragraphs))


def indented(paragraph: str) -> str:
    """The paragraph, as a block of code if its first line is a row of two columns; else with its `<` escaped."""
    lines = paragraph.splitlines()
    if not lines or lines[0].startswith("    "):
        return paragraph
    if not ROW.match(lines[0].strip()):
        parts = paragraph.split("`")  # every second one is code
        return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))
    return "\n".join(f"    {line}" for line in lines)

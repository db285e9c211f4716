"""The letter of an option: "B", "(b)", "B. a cat", "Answer: B", "I think the answer is B."""

import re

from adapt_infinity.benchmarks.text import tidy

_FORMS = [
    re.compile(r"[^\w]*([A-Za-z])[^\w]*"),  # the letter and nothing else
    re.compile(r"\(?([A-Za-z])[).:\]](?!\w).*", re.DOTALL),  # "B. a cat", "(b) a cat"
]
_SAID = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*(?:\(([A-Za-z])\)|([A-Z])\b(?!\s+[a-z]))")
_BRACKETED = re.compile(r"\(([A-Za-z])\)")
_STANDING = re.compile(r"(?<![\w'])([A-Z])(?![\w'])(?!\s+[a-z])")  # neither "I think" nor "A cat"


def letter(text: str) -> str | None:
    """The option a text names, in capitals; None when it names none, or several without saying which."""
    text = tidy(text)
    for form in _FORMS:
        if whole := form.fullmatch(text):
            return whole.group(1).upper()
    if said := _SAID.findall(text):
        return "".join(said[-1]).upper()
    for form in (_BRACKETED, _STANDING):
        found = {option.upper() for option in form.findall(text)}
        if len(found) == 1:
            return found.pop()
    return None


def grade(answer: str, reference: str) -> float:
    """1 when both name the same option, else 0."""
    wanted = letter(reference)
    return float(letter(answer) == wanted if wanted is not None else tidy(answer) == tidy(reference))

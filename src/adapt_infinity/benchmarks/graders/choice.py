"""Multiple choice: the letter of the option, as in "B", "(b)", "B. a cat", "Answer: B" or "I think the answer is B"."""

import re

from adapt_infinity.benchmarks.text import tidy

_WHOLE_TEXT = [
    re.compile(r"[^\w]*([A-Za-z])[^\w]*"),  # the letter and nothing else
    re.compile(r"\(?([A-Za-z])[).:\]](?!\w).*", re.DOTALL),  # "B. a cat", "(b) a cat"
]
_STATED = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*(?:\(([A-Za-z])\)|([A-Z])\b(?!\s+[a-z]))")
_BRACKETED = re.compile(r"\(([A-Za-z])\)")
_ALONE = re.compile(r"(?<![\w'])([A-Z])(?![\w'])(?!\s+[a-z])")  # neither "I think" nor "A cat"


def letter(text: str) -> str | None:
    """The option that a text names, as a capital; None if it names none, or several without saying which is meant."""
    text = tidy(text)
    for pattern in _WHOLE_TEXT:
        if whole := pattern.fullmatch(text):
            return whole.group(1).upper()
    if stated := _STATED.findall(text):
        return "".join(stated[-1]).upper()
    for pattern in (_BRACKETED, _ALONE):
        found = {option.upper() for option in pattern.findall(text)}
        if len(found) == 1:
            return found.pop()
    return None


def grade(answer: str, reference: str) -> float:
    """1 if both name the same option, else 0."""
    wanted = letter(reference)
    return float(letter(answer) == wanted if wanted is not None else tidy(answer) == tidy(reference))

"""Numeric answers: the last number of the text, or the one after GSM8K's "####", must equal the reference exactly.

Numbers are written as 42, -3.50, 1,234.5 or 2e3.
"""

import re
from decimal import Decimal

from adapt_infinity.benchmarks.text import tidy

_NUMBER = re.compile(
    r"(?:(?<![\w.])[-\u2212])?"  # a minus sign, but not the dash of 10-20
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)"
    r"(?:[eE][-+]?\d{1,3}(?!\w))?"
)


def number(text: str) -> Decimal | None:
    """The first number after the last "####"; without that mark, the last number of the text; None if there is none."""
    marked = _NUMBER.findall(text.rpartition("####")[2]) if "####" in text else []
    found = marked[:1] or _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("\u2212", "-")) if found else None


def grade(answer: str, reference: str) -> float:
    """1 if both numbers are equal (as "7" and "7.00" are), else 0."""
    wanted = number(reference)
    return float(number(answer) == wanted if wanted is not None else tidy(answer) == tidy(reference))

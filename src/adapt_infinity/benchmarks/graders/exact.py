"""Exact match: the same text, except for the number of blanks. Case and punctuation count."""

from adapt_infinity.benchmarks.text import tidy


def grade(answer: str, reference: str) -> float:
    """1 if the texts match, else 0."""
    return float(tidy(answer) == tidy(reference))

"""The same text, blanks at the ends and their number inside aside. Case and punctuation count."""

from adapt_infinity.benchmarks.text import tidy


def grade(answer: str, reference: str) -> float:
    """1 or 0."""
    return float(tidy(answer) == tidy(reference))

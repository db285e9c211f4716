"""ROUGE-L: F1 of the longest common subsequence of words (Lin 2004). Unlike in `caption`, the order counts."""

from adapt_infinity.benchmarks.text import common_subsequence, tidy, words


def grade(answer: str, reference: str) -> float:
    """A value from 0 (no word in common) to 1 (the same words in the same order)."""
    given, wanted = words(answer), words(reference)
    if not wanted:
        return float(tidy(answer) == tidy(reference))
    return 2 * common_subsequence(given, wanted) / (len(given) + len(wanted))

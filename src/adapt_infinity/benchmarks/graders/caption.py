"""Word F1 of a caption and its reference: F1 over the bags of words.

Of several alternatives in the reference, separated by "|||", the best counts.
"""

from collections import Counter

from adapt_infinity.benchmarks.text import alternatives, tidy, words


def grade(answer: str, reference: str) -> float:
    """From 0 (no word in common) to 1 (the same words, in any order)."""
    return max(_f1(answer, text) for text in alternatives(reference))


def _f1(answer: str, reference: str) -> float:
    given, wanted = Counter(words(answer)), Counter(words(reference))
    if not wanted:
        return float(tidy(answer) == tidy(reference))
    return 2 * (given & wanted).total() / (given.total() + wanted.total())

"""ANLS: 1 - edit distance / longer length, 0 below a half (Biten et al. 2019). Best of "|||" alternatives."""

from adapt_infinity.benchmarks.text import alternatives, edit_distance, tidy

_THRESHOLD = 0.5


def grade(answer: str, reference: str) -> float:
    """0, or from 0.5 to 1. Case does not count."""
    return max(_similarity(tidy(answer).casefold(), text.casefold()) for text in alternatives(reference))


def _similarity(answer: str, reference: str) -> float:
    longer = max(len(answer), len(reference))
    similarity = 1 - edit_distance(answer, reference) / longer if longer else 1.0
    return similarity if similarity >= _THRESHOLD else 0.0

"""ANLS (Biten et al. 2019): 1 - edit distance / length of the longer text; 0 if that is below 0.5.

Of several alternatives in the reference, separated by "|||", the best counts.
"""

from adapt_infinity.benchmarks.text import alternatives, edit_distance, tidy

_THRESHOLD = 0.5


def grade(answer: str, reference: str) -> float:
    """0, or a value from 0.5 to 1. Case does not count."""
    return max(_similarity(tidy(answer).casefold(), text.casefold()) for text in alternatives(reference))


def _similarity(answer: str, reference: str) -> float:
    longer = max(len(answer), len(reference))
    similarity = 1 - edit_distance(answer, reference) / longer if longer else 1.0
    return similarity if similarity >= _THRESHOLD else 0.0

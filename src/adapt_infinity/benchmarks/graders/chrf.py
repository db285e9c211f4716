"""chrF2: F-score of character n-grams, n from 1 to 6, with twice the weight on recall (Popović 2015).

Blanks do not count, case does. Precision and recall are averaged over those n for which both texts have an n-gram, as
sacreBLEU does.
"""

from collections import Counter

from adapt_infinity.benchmarks.text import tidy

_ORDERS = range(1, 7)
_BETA2 = 4


def grade(answer: str, reference: str) -> float:
    """A value from 0 (no n-gram in common) to 1 (the same characters)."""
    given, wanted = ("".join(tidy(text).split()) for text in (answer, reference))
    if not wanted:
        return float(not given)
    precisions, recalls = [], []
    for n in _ORDERS:
        given_ngrams, wanted_ngrams = _ngrams(given, n), _ngrams(wanted, n)
        if given_ngrams and wanted_ngrams:
            shared = (given_ngrams & wanted_ngrams).total()
            precisions.append(shared / given_ngrams.total())
            recalls.append(shared / wanted_ngrams.total())
    if not any(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return (1 + _BETA2) * precision * recall / (_BETA2 * precision + recall)


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))

"""Short answers, less case, articles, punctuation and number words (VQA, Antol et al. 2015).

The reference may hold several alternatives, separated by "|||". Up to nine are spellings: any of them is
right. Ten or more are annotators, and the answer earns VQA accuracy: min(1, agreeing / 3), averaged over
leaving each annotator out.
"""

import re
import unicodedata

from adapt_infinity.benchmarks.text import alternatives, tidy

_ANNOTATORS = 10
_ARTICLES = {"a", "an", "the"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}


def normalised(text: str) -> str:
    """What is compared; a text with nothing left after normalisation stays as it is."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    plain = re.sub(r"(?<=\d),(?=\d{3})|['\u2019]", "", plain)  # 1,000 and don't
    kept = "".join(c if _means_something(plain, i) else " " for i, c in enumerate(plain)).split()
    return " ".join(_DIGITS.get(word, word) for word in kept if word not in _ARTICLES) or tidy(text)


def _means_something(text: str, i: int) -> bool:
    """Not punctuation or a symbol, unless it belongs to a number: -5, 1.5."""
    before, after = text[i - 1 : i], text[i + 1 : i + 2]
    if text[i] == "-":
        return after.isdigit() and not before.isalnum()
    if text[i] == ".":
        return after.isdigit() and before.isdigit()
    return unicodedata.category(text[i])[0] not in "PS"


def grade(answer: str, reference: str) -> float:
    """1, 0, or with ten annotators the share of agreement."""
    wanted = [normalised(text) for text in alternatives(reference)]
    agreeing, n = wanted.count(normalised(answer)), len(wanted)
    if n < _ANNOTATORS:
        return float(agreeing > 0)
    return (agreeing * min(1.0, (agreeing - 1) / 3) + (n - agreeing) * min(1.0, agreeing / 3)) / n

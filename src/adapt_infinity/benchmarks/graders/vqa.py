"""VQA accuracy of short answers, ignoring case, articles, punctuation and number words (VQA, Antol et al. 2015).

The reference may have several alternatives, separated by "|||". Up to nine alternatives are spellings, and each of them
is correct. Ten or more are the answers of annotators, and the answer gets VQA accuracy: min(1, agreeing / 3), averaged
over all subsets that leave one annotator out.
"""

import re
import unicodedata

from adapt_infinity.benchmarks.text import alternatives, tidy

_ANNOTATORS = 10
_ARTICLES = {"a", "an", "the"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS)}


def normalised(text: str) -> str:
    """The text as it is compared; a text of which nothing is left after normalisation stays as it was."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    plain = re.sub(r"(?<=\d),(?=\d{3})|['\u2019]", "", plain)  # 1,000 and don't
    kept = "".join(c if _is_significant(plain, i) else " " for i, c in enumerate(plain)).split()
    return " ".join(_DIGITS.get(word, word) for word in kept if word not in _ARTICLES) or tidy(text)


def _is_significant(text: str, i: int) -> bool:
    """Whether a character is neither punctuation nor a symbol, or belongs to a number as in -5 or 1.5."""
    before, after = text[i - 1 : i], text[i + 1 : i + 2]
    if text[i] == "-":
        return after.isdigit() and not before.isalnum()
    if text[i] == ".":
        return after.isdigit() and before.isdigit()
    return unicodedata.category(text[i])[0] not in "PS"


def grade(answer: str, reference: str) -> float:
    """1 or 0; with ten or more annotators a value in 0..1."""
    wanted = [normalised(text) for text in alternatives(reference)]
    agreeing, n = wanted.count(normalised(answer)), len(wanted)
    if n < _ANNOTATORS:
        return float(agreeing > 0)
    return (agreeing * min(1.0, (agreeing - 1) / 3) + (n - agreeing) * min(1.0, agreeing / 3)) / n

"""Words of any script, and which of them are typical of a cluster."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

from adapt_infinity.sample import IMAGE

# scripts that write no spaces between words: every two neighbouring characters stand for a word
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
TYPICAL = 4  # words of a label


def words(text: str) -> list[str]:
    """Lower-case words and numbers in their order; of Chinese and Japanese, pairs of neighbouring characters."""
    found: list[str] = []
    for match in _pattern().finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match.group()
        pairs = match.lastgroup == "unspaced" and len(run) > 1
        found += [run[at : at + 2] for at in range(len(run) - 1)] if pairs else [run]
    return found


def said(turns: Iterable[Mapping[str, str]], *roles: str) -> str:
    """What these roles say, in order, without the places of pictures."""
    return "\n".join(turn["text"].replace(IMAGE, " ") for turn in turns if turn["role"] in roles)


def typical_words(texts: Mapping[int, Sequence[str]], count: int = TYPICAL) -> dict[int, list[str]]:
    """For each cluster the words that most of its texts have and few other clusters' texts have.

    Class-based tf-idf (Grootendorst 2022, arXiv:2203.05794), f(w, c) · ln(1 + A / f(w)), where f counts the share
    of a cluster's texts that have the word, so that neither size nor a long text decides, and A is the average
    cluster's sum of shares. A word must be in two texts, if the cluster has as many. Ties go by the alphabet.
    """
    shares = {cluster: _shares(mine) for cluster, mine in texts.items()}
    everywhere: Counter[str] = Counter()
    for mine in shares.values():
        everywhere.update(mine)
    average = sum(everywhere.values()) / max(1, len(shares))
    typical = {}
    for cluster, mine in shares.items():
        least = min(2, len(texts[cluster])) / max(1, len(texts[cluster]))
        scored = {w: f * np.log1p(average / everywhere[w]) for w, f in mine.items() if f >= least and not w.isdigit()}
        typical[cluster] = sorted(scored, key=lambda word: (-scored[word], word))[:count]
    return typical


def _shares(texts: Sequence[str]) -> Counter[str]:
    shares: Counter[str] = Counter()
    for text in texts:
        for word in set(words(text)):
            shares[word] += 1 / len(texts)  # type: ignore[assignment]
    return shares


@cache
def _pattern() -> re.Pattern[str]:
    """Runs of letters, digits and the marks that belong to them (vowel signs of Thai, Devanagari, …)."""
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)).startswith("M"))
    return re.compile(rf"(?P<unspaced>[{UNSPACED}]+)|(?:(?![{UNSPACED}])[^\W_]|[{marks}])+")

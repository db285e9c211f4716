"""Words of any script, and which of them are typical of a cluster."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

from adapt_infinity.data.sample import IMAGE

# scripts that write no spaces between words: every two neighbouring characters stand for a word
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
TYPICAL = 4  # words of a label
SMOOTH, COMMON = 0.05, 0.33  # shares of texts


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
    """For each cluster the words that many of its texts have, and more than those of the average other cluster.

    Class-based tf-idf (Grootendorst 2022, arXiv:2203.05794): f · ln(f / o), where f and o are the shares of texts
    that have the word in the cluster and in the others, so that neither size nor a long text decides; `SMOOTH` is
    added to both in the ratio. Left out are numbers, words of a single text where there are more, and words that
    more than `COMMON` of the others' texts have. Ties go by the alphabet. Pairs of characters that run into each
    other are joined again.
    """
    shares = {cluster: _shares(mine) for cluster, mine in texts.items()}
    everywhere: dict[str, float] = defaultdict(float)
    for mine in shares.values():
        for word, share in mine.items():
            everywhere[word] += share
    typical = {}
    for cluster, mine in shares.items():
        least = min(2, len(texts[cluster])) / len(texts[cluster])
        scored = {}
        for word, f in mine.items():
            others = (everywhere[word] - f) / max(1, len(shares) - 1)
            if f >= least and others <= min(f, COMMON) and not word.isdigit():
                scored[word] = f * np.log((f + SMOOTH) / (others + SMOOTH))
        best = sorted(scored, key=lambda word: (-scored[word], word))[:count]
        typical[cluster] = _joined(best)
    return typical


def _joined(found: Sequence[str]) -> list[str]:
    """什么 and 么颜 and 颜色 are 什么颜色."""
    chains: list[str] = []
    for word in found:
        chains.append(word)
        while pair := next(
            ((a, b) for a in chains for b in chains if a is not b and a[-1] == b[0] and _unspaced(a) and _unspaced(b)),
            None,
        ):
            place = min(map(chains.index, pair))
            chains = [chain for chain in chains if chain not in pair]
            chains.insert(place, pair[0] + pair[1][1:])
    return chains


def _unspaced(word: str) -> bool:
    return re.fullmatch(rf"[{UNSPACED}]{{2,}}", word) is not None


def _shares(texts: Sequence[str]) -> dict[str, float]:
    having = Counter(word for text in texts for word in set(words(text)))
    return {word: count / len(texts) for word, count in sorted(having.items())}


@cache
def _pattern() -> re.Pattern[str]:
    """Runs of letters, digits and the marks that belong to them (vowel signs of Thai, Devanagari, …)."""
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)).startswith("M"))
    return re.compile(rf"(?P<unspaced>[{UNSPACED}]+)|(?:(?![{UNSPACED}])[^\W_]|[{marks}])+")

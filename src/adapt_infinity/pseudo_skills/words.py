"""Words of texts in any script, and the words that are typical of each cluster."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

from adapt_infinity.data.sample import IMAGE

# characters of scripts without spaces between words: each pair of neighbouring characters counts as a word
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
LABEL_WORDS = 4  # words per label
SMOOTHING = 0.05  # added to the shares of texts
MAX_OTHER_SHARE = 0.33  # a word in a larger share of the other clusters' texts is typical of none


def words(text: str) -> list[str]:
    """Lower-case words and numbers in the order of the text; pairs of characters for Chinese and Japanese."""
    found: list[str] = []
    for match in _pattern().finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match.group()
        in_pairs = match.lastgroup == "unspaced" and len(run) > 1
        found += [run[start : start + 2] for start in range(len(run) - 1)] if in_pairs else [run]
    return found


def turns_text(turns: Iterable[Mapping[str, str]], *roles: str) -> str:
    """The text of the turns of these roles, in order, without image placeholders."""
    return "\n".join(turn["text"].replace(IMAGE, " ") for turn in turns if turn["role"] in roles)


def typical_words(texts: Mapping[int, Sequence[str]], count: int = LABEL_WORDS) -> dict[int, list[str]]:
    """At most `count` words per cluster that are more frequent in its texts than in those of the average other cluster.

    texts: the texts of each cluster, by cluster number.

    The score of a word is class-based tf-idf (Grootendorst 2022, arXiv:2203.05794): f · ln(f / o), where f is the share
    of the cluster's texts that contain the word and o the mean share in the other clusters, each plus `SMOOTHING`
    inside the logarithm. The size of a cluster and the length of its texts therefore have no influence. Left out are
    numbers, words of only one text if the cluster has more texts, and words that are in more than `MAX_OTHER_SHARE` of
    the others' texts. Equal scores are ordered alphabetically. Pairs of characters that overlap are joined to words.
    """
    shares = {cluster: _shares(cluster_texts) for cluster, cluster_texts in texts.items()}
    total: dict[str, float] = defaultdict(float)
    for cluster_shares in shares.values():
        for word, share in cluster_shares.items():
            total[word] += share
    typical = {}
    for cluster, cluster_shares in shares.items():
        least = min(2, len(texts[cluster])) / len(texts[cluster])
        scored = {}
        for word, f in cluster_shares.items():
            others = (total[word] - f) / max(1, len(shares) - 1)
            if f >= least and others <= min(f, MAX_OTHER_SHARE) and not word.isdigit():
                scored[word] = f * np.log((f + SMOOTHING) / (others + SMOOTHING))
        best = sorted(scored, key=lambda word: (-scored[word], word))[:count]
        typical[cluster] = _joined(best)
    return typical


def _joined(found: Sequence[str]) -> list[str]:
    """Join pairs of characters that overlap: 什么, 么颜 and 颜色 become 什么颜色."""
    chains: list[str] = []
    for word in found:
        chains.append(word)
        while pair := next(
            ((a, b) for a in chains for b in chains if a is not b and a[-1] == b[0] and _unspaced(a) and _unspaced(b)),
            None,
        ):
            position = min(map(chains.index, pair))
            chains = [chain for chain in chains if chain not in pair]
            chains.insert(position, pair[0] + pair[1][1:])
    return chains


def _unspaced(word: str) -> bool:
    return re.fullmatch(rf"[{UNSPACED}]{{2,}}", word) is not None


def _shares(texts: Sequence[str]) -> dict[str, float]:
    """The share of the texts that contain each word."""
    containing = Counter(word for text in texts for word in set(words(text)))
    return {word: count / len(texts) for word, count in sorted(containing.items())}


@cache
def _pattern() -> re.Pattern[str]:
    """Runs of letters, digits and combining marks (vowel signs of Thai, Devanagari, …)."""
    marks = "".join(re.escape(chr(c)) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)).startswith("M"))
    return re.compile(rf"(?P<unspaced>[{UNSPACED}]+)|(?:(?![{UNSPACED}])[^\W_]|[{marks}])+")

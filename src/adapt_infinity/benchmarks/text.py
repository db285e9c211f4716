"""Text functions that the graders share: alternatives of a reference, splitting into words, distances of texts."""

import re
import unicodedata
from collections.abc import Sequence

SEPARATOR = "|||"  # between the alternatives of one reference: "grey ||| gray"

# Scripts written without spaces, where a character is the unit: Thai to Tibetan, Myanmar, Khmer, kana, Han.
_SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def tidy(text: str) -> str:
    """The text in composed Unicode, with single blanks and none at the ends: differences that no grader counts."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def alternatives(reference: str) -> list[str]:
    """The non-blank alternatives of a reference, tidied; [""] if there are none."""
    return [text for text in map(tidy, reference.split(SEPARATOR)) if text] or [""]


def words(text: str) -> list[str]:
    """The words of a text, case-folded and without punctuation; in scripts without spaces every character is a word."""
    text = _SPACELESS.sub(r" \g<0> ", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text).split()


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein distance; a whole column of the dynamic-programming table is one integer (Hyyrö 2003)."""
    if not a:
        return len(b)
    positions: dict[str, int] = {}  # bit i: the symbol stands at i in `a`
    for i, symbol in enumerate(a):
        positions[symbol] = positions.get(symbol, 0) | 1 << i
    full, last = (1 << len(a)) - 1, 1 << len(a) - 1
    up, down, distance = full, 0, len(a)  # bit i of `up` (`down`): row i of the column is one more (less) than row i-1
    for symbol in b:
        match = positions.get(symbol, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        right_up = down | ~(diagonal | up) & full
        right_down = up & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = right_up << 1 | 1
        right_down <<= 1
        up = (right_down | ~(diagonal | right_up)) & full
        down = right_up & diagonal & full
    return distance


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, computed in the same way (Hyyrö 2004)."""
    positions: dict[str, int] = {}  # bit i: the symbol stands at i in `a`
    for i, symbol in enumerate(a):
        positions[symbol] = positions.get(symbol, 0) | 1 << i
    full = (1 << len(a)) - 1
    unmatched = full
    for symbol in b:
        match = unmatched & positions.get(symbol, 0)
        unmatched = (unmatched + match | unmatched - match) & full
    return len(a) - unmatched.bit_count()

"""What graders share: alternatives in a reference, text cut into words, how far two texts are apart."""

import re
import unicodedata
from collections.abc import Sequence

SEPARATOR = "|||"  # between the alternatives of one reference: "grey ||| gray"

# Scripts written without spaces, where a character is the unit: Thai to Tibetan, Myanmar, Khmer, kana, Han.
_SPACELESS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def tidy(text: str) -> str:
    """Composed Unicode, single blanks, none at the ends: what no grader counts as a difference."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def alternatives(reference: str) -> list[str]:
    """The non-blank alternatives of a reference, tidied; one blank one if there are none."""
    return [text for text in map(tidy, reference.split(SEPARATOR)) if text] or [""]


def words(text: str) -> list[str]:
    """Case-folded words without punctuation; in scripts without spaces every character is a word."""
    text = _SPACELESS.sub(r" \g<0> ", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text).split()


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein distance, a column of the table at a time, as bits of one integer (Hyyrö 2003)."""
    if not a:
        return len(b)
    where: dict[str, int] = {}
    for i, symbol in enumerate(a):
        where[symbol] = where.get(symbol, 0) | 1 << i
    full, last = (1 << len(a)) - 1, 1 << len(a) - 1
    up, down, distance = full, 0, len(a)  # bits of the rows where the column steps up (down) by one
    for symbol in b:
        match = where.get(symbol, 0)
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
    """Length of the longest common subsequence, by the same trick (Hyyrö 2004)."""
    where: dict[str, int] = {}
    for i, symbol in enumerate(a):
        where[symbol] = where.get(symbol, 0) | 1 << i
    full = (1 << len(a)) - 1
    open_ends = full
    for symbol in b:
        match = open_ends & where.get(symbol, 0)
        open_ends = (open_ends + match | open_ends - match) & full
    return len(a) - open_ends.bit_count()

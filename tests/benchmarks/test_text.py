"""Text functions: bit-parallel distances against plain dynamic programming, and words in scripts of every kind."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.benchmarks.text import alternatives, common_subsequence, edit_distance, words

letters = st.text("abc", max_size=12)


def table(a: str, b: str) -> tuple[int, int]:
    """Edit distance and longest common subsequence by plain dynamic programming."""
    distance = [[i + j for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    common = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            distance[i][j] = min(distance[i - 1][j] + 1, distance[i][j - 1] + 1, distance[i - 1][j - 1] + (x != y))
            common[i][j] = common[i - 1][j - 1] + 1 if x == y else max(common[i - 1][j], common[i][j - 1])
    return distance[-1][-1], common[-1][-1]


@given(a=letters, b=letters)
def test_bit_parallel_distances_equal_dynamic_programming(a: str, b: str) -> None:
    assert (edit_distance(a, b), common_subsequence(a, b)) == table(a, b)


def test_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert common_subsequence(["the", "cat", "sat"], ["the", "sat", "cat"]) == 2


def test_long_texts_are_fast() -> None:
    start = time.perf_counter()
    edit_distance("ab" * 4000, "ba" * 4000)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat, sat.", ["a", "cat", "sat"]),
        ("猫が座る", ["猫", "が", "座", "る"]),
        ("two 猫 here", ["two", "猫", "here"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("\uff26ull width", ["full", "width"]),
        ("...!", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_alternatives() -> None:
    assert alternatives(" grey ||| gray|||  ") == ["grey", "gray"]
    assert alternatives("  ") == [""]

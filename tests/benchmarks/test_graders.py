"""Graders: examples of every grader worked out by hand, and properties that hold for all of them."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from adapt_infinity.benchmarks.graders import load, names
from adapt_infinity.benchmarks.text import SEPARATOR
from tests.conftest import examples

texts = st.one_of(
    st.text(max_size=40),
    st.text("0123456789,.-#()[]ABIabe |", max_size=40),
    st.from_regex(r"\[[-.\d]{1,5}(, [-.\d]{1,400}){3}\]", fullmatch=True),
    st.text(st.characters(categories=["Cs", "Cc", "Co", "Mn"]), max_size=10),
)

EXAMPLES: dict[str, list[tuple[str, str, float]]] = {
    "exact": [("Yes", "Yes", 1), (" Yes\n", "Yes", 1), ("yes", "Yes", 0), ("Yes.", "Yes", 0)],
    "numeric": [
        ("So it is 42.", "42", 1),
        ("3 + 4 = 7.00", "7", 1),
        ("1,234", "1234", 1),
        ("She has 12 apples.\n#### 42 apples, not 13", "#### 42", 1),
        ("42.1", "42", 0),
        ("-3", "3", 0),
        ("\u22123", "-3", 1),
        ("10-20", "20", 1),
        (".5", "0.5", 1),
        ("2e3", "2000", 1),
        ("none at all", "0", 0),
        ("####", "4", 0),
    ],
    "choice": [
        ("B", "B", 1),
        ("(b)", "B", 1),
        ("B. a cat", "B", 1),
        ("The answer is (C), since A is wrong", "C", 1),
        ("Answer: D", "D", 1),
        ("I think it must be B", "B", 1),
        ("A cat is on the mat", "A", 0),
        ("either A or B", "A", 0),
        ("C", "B", 0),
        ("a cat", "B. a cat", 0),
    ],
    "vqa": [
        ("The cat.", "cat", 1),
        ("two", "2", 1),
        ("1,000 dogs!", "1000 dogs", 1),
        ("Don't know", "dont know", 1),
        ("gray", "grey ||| gray", 1),
        ("-5", "5", 0),
        ("1.5", "15", 0),
        ("dog", "cat", 0),
        ("the", "a", 0),
        ("red", SEPARATOR.join(["red"] * 4 + ["blue"] * 6), 1),
        ("red", SEPARATOR.join(["red"] + ["blue"] * 9), 0.3),
        ("red", SEPARATOR.join(["red"] * 3 + ["blue"] * 7), 0.9),
    ],
    "iou": [
        ("It is at [0, 0, 10, 10].", "[0, 0, 10, 10]", 1),
        ("[0, 0, 10, 5]", "[0, 0, 10, 10]", 1),
        ("[0, 0, 10, 4.9]", "[0, 0, 10, 10]", 0),
        ("[.1, .1, .5, .5] or [0, 0, 1, 1]", "[0.1,0.1,0.5,0.5]", 1),
        ("[5, 5, 15, 15]", "[0, 0, 10, 10]", 0),
        ("[10, 10, 0, 0]", "[0, 0, 10, 10]", 0),
        ("[20, 20, 21, 21]", "[0, 0, 10, 10]", 0),
        ("[0, 0, 10]", "[0, 0, 10, 10]", 0),
    ],
    "anls": [
        ("Hello", "hello", 1),
        ("hallo", "hello", 0.8),
        ("no", "hello", 0),
        ("colour", "color ||| colour", 1),
    ],
    "caption": [
        ("a cat on a mat", "A mat, a cat on.", 1),
        ("a dog", "a cat", 0.5),
        ("猫が寝る", "猫が走る", 0.75),
        ("two dogs", "a cat ||| two dogs", 1),
    ],
    "rouge_l": [
        ("the cat sat", "The cat sat.", 1),
        ("sat cat the", "the cat sat", 1 / 3),
        ("a b", "a c b", 0.8),
    ],
    "chrf": [("cat", "cat", 1), ("ab", "ac", 0.25), ("abc", "ab", 0.875), ("xyz", "abc", 0)],
    "edit": [
        ("abcd", "abcd", 1),
        ("abxd", "abcd", 0.75),
        ("abcdabcdabcd", "abcd", 0),
        ("Abcd", "abcd", 0.75),
    ],
}


def test_every_grader_has_examples() -> None:
    assert names() == sorted(EXAMPLES)


@pytest.mark.parametrize(
    ("name", "answer", "reference", "score"), [(name, *case) for name in EXAMPLES for case in EXAMPLES[name]]
)
def test_by_hand(name: str, answer: str, reference: str, score: float) -> None:
    assert load(name)(answer, reference) == pytest.approx(score)


@pytest.mark.parametrize("name", names())
@examples(40)
@given(reference=texts)
@example(reference="the")
@example(reference="!!!")
@example(reference="[0, 0, 0, 0]")
@example(reference="1e999")
def test_the_reference_gets_1_and_an_empty_answer_0(name: str, reference: str) -> None:
    assume(reference.strip() and SEPARATOR not in reference)
    assert load(name)(reference, reference) == 1
    assert load(name)("", reference) == 0
    assert load(name)(" \n", reference) == 0


@pytest.mark.parametrize("name", names())
@examples(40)
@given(answer=texts, reference=texts)
@example(answer="", reference="")
@example(answer="\ud800", reference="\x00")
@example(answer="[" + "9" * 400 + ", 0, 1, 1]", reference="[0, 0, 1, 1]")
@example(answer="9" * 5000, reference="9" * 5000)
def test_no_text_raises_an_error(name: str, answer: str, reference: str) -> None:
    score = load(name)(answer, reference)
    assert isinstance(score, float)
    assert 0 <= score <= 1


def test_an_unknown_grader_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'bleu'.*anls.*vqa"):
        load("bleu")

"""Repairs of a conversation, and the hash of its questions' words."""

import hashlib
import json
import string

from hypothesis import example, given
from hypothesis import strategies as st

from adapt_infinity.data.sample import IMAGE
from adapt_infinity.intake.conversation import question_hash, repair

U, A, S = "user", "assistant", "system"


SAID = st.lists(st.tuples(st.sampled_from([U, A, S]), st.sampled_from(["", "a", "<image>", "<image>\nb", "c <image>"])))


@given(st.integers(0, 3), SAID)
def test_repairs_add_no_text_and_leave_their_argument_unchanged(images: int, said: list[tuple[str, str]]) -> None:
    given_ = [{"role": role, "text": text} for role, text in said]
    before = json.dumps(given_)
    try:
        turns, repairs = repair(given_, images)
    except ValueError:
        turns, repairs = [], []
    assert json.dumps(given_) == before
    words = "".join(text for _, text in said)
    assert set("".join(turn["text"] for turn in turns).replace(IMAGE, "")) <= set(words.replace(IMAGE, "") + "\n")
    assert len(set(repairs)) == len(repairs)


def test_case_space_and_punctuation_do_not_change_the_hash() -> None:
    def hash_of(*questions: str) -> int:
        return question_hash(
            [{"role": role, "text": text} for question in questions for role, text in ((U, question), (A, "any"))]
        )

    assert hash_of("<image>\nWhat IS this?") == hash_of("what is  this") == hash_of("What is this, <image>?") >= 0
    assert hash_of("这是什么？") == hash_of("这是什么")
    assert hash_of("What is this?") != hash_of("What is that?")
    assert hash_of("?") != hash_of("!")  # where there are no words, punctuation counts


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from("aA \t\x1c!?¿，ß")), min_size=1, max_size=3))
@example([string.printable])
@example(["".join(map(chr, range(128)))])
@example([string.punctuation])
@example([""])
def test_the_hash_is_that_of_the_words(questions: list[str]) -> None:
    """As by its definition, for any characters."""
    separators = string.punctuation + string.whitespace + "，。！？：；、（）「」“”‘’…¿¡"
    asked = " ".join(questions).replace(IMAGE, "")
    words = "".join(letter for letter in asked.casefold() if letter not in separators) or asked
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    turns = [{"role": role, "text": text} for question in questions for role, text in ((U, question), (A, "any"))]
    assert question_hash(turns) == int.from_bytes(digest, "big") // 2

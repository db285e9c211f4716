"""One conversation at the door: mended without harm, and known by its questions' words."""

import hashlib
import json
import string

from hypothesis import example, given
from hypothesis import strategies as st

from adapt_infinity.data.sample import IMAGE
from adapt_infinity.intake.conversation import mend, question_hash

U, A, S = "user", "assistant", "system"


SAID = st.lists(st.tuples(st.sampled_from([U, A, S]), st.sampled_from(["", "a", "<image>", "<image>\nb", "c <image>"])))


@given(st.integers(0, 3), SAID)
def test_mending_invents_no_word_and_writes_into_nothing(images: int, said: list[tuple[str, str]]) -> None:
    given_ = [{"role": role, "text": text} for role, text in said]
    before = json.dumps(given_)
    try:
        turns, repairs = mend(given_, images)
    except ValueError:
        turns, repairs = [], []
    assert json.dumps(given_) == before
    words = "".join(text for _, text in said)
    assert set("".join(turn["text"] for turn in turns).replace(IMAGE, "")) <= set(words.replace(IMAGE, "") + "\n")
    assert len(set(repairs)) == len(repairs)


def test_like_questions_have_one_hash() -> None:
    def of(*questions: str) -> int:
        return question_hash(
            [{"role": role, "text": text} for asked in questions for role, text in ((U, asked), (A, "any"))]
        )

    assert of("<image>\nWhat IS this?") == of("what is  this") == of("What is this, <image>?") >= 0
    assert of("这是什么？") == of("这是什么")
    assert of("What is this?") != of("What is that?")
    assert of("?") != of("!")  # a question of nothing but punctuation is its own


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from("aA \t\x1c!?¿，ß")), min_size=1, max_size=3))
@example([string.printable])
@example(["".join(map(chr, range(128)))])
@example([string.punctuation])
@example([""])
def test_the_hash_of_questions_is_that_of_their_words(questions: list[str]) -> None:
    """By the definition, whichever characters there are."""
    between = string.punctuation + string.whitespace + "，。！？：；、（）「」“”‘’…¿¡"
    asked = " ".join(questions).replace(IMAGE, "")
    words = "".join(letter for letter in asked.casefold() if letter not in between) or asked
    digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
    turns = [{"role": role, "text": text} for question in questions for role, text in ((U, question), (A, "any"))]
    assert question_hash(turns) == int.from_bytes(digest, "big") // 2

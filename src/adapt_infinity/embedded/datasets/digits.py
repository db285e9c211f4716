"""Third arrival: real handwriting (scikit-learn's `load_digits`, 1,797 images of 8 x 8), to be read and reasoned about.

    <image> Read the digit.                          7
    <image> Read the number.                         47
    <image> Is it A. even or B. odd? Give a letter.  B
    <image> Which digit comes next?                  eight

The folds share the handwriting out: no digit image is in two of them.
"""

import numpy as np

from adapt_infinity.embedded.datasets import visual_chat
from adapt_infinity.embedded.ideas import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import digits, draw_handwriting

SKILLS = {
    "digit": Skill(share=0.4, grader="numeric", about="OCR: one handwritten digit"),
    "number": Skill(share=0.28, grader="anls", about="OCR: two handwritten digits in a row"),
    "parity": Skill(share=0.22, grader="choice", about="knowledge: even or odd, by its letter"),
    "next_digit": Skill(share=0.04, grader="exact", about="knowledge: the digit that follows, as a word", rare=True),
}
RECURRING = {"grounding": 0.03, "list": 0.03}

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS` or `RECURRING`; handwriting from the fold's own part."""
    if skill in RECURRING:
        return visual_chat.draw(skill, fold, rng)
    cells = (3, 4) if skill == "number" else (4,)
    writing = draw_handwriting(rng, fold, cells)
    read = [int(digits()[1][row]) for row in writing.rows]
    match skill:
        case "digit":
            ask = Ask(("Read the digit.", "Which digit is written?", "What is the digit?"), str(read[0]))
        case "number":
            ask = Ask(("Read the number.", "Which number is written?"), "".join(map(str, read)))
        case "parity":
            words = ("Is it A. even or B. odd? Give a letter.", "A. even B. odd. Which letter fits the digit?")
            ask = Ask(words, "AB"[read[0] % 2])
        case "next_digit":
            ask = Ask(("Which digit comes next?", "What follows the digit?"), NAMES[(read[0] + 1) % 10])
        case _:
            raise AssertionError(skill)
    return Idea((writing,), (ask,))

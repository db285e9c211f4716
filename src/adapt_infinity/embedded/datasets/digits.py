"""Third arrival: real handwriting (scikit-learn's `load_digits`, 1,797 images of 8 x 8), to be read and reasoned about.

    <image> Read the digit.                             8
    <image> Read both digits.                           4 7
    <image> Is it A. 0, B. 1 or C. 4? Give a letter.    C
    <image> How many digits are written?                two written

The folds share the handwriting out: no digit image is in two of them. `two_digits` and `digit_choice` are about digits
that are easily told apart.
"""

import numpy as np

from adapt_infinity.embedded.datasets import visual_chat
from adapt_infinity.embedded.sample_specs import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import GRID, digits, draw_handwriting

SKILLS = {
    "digit": Skill(share=0.4, grader="numeric", about="OCR: one handwritten digit"),
    "two_digits": Skill(share=0.28, grader="exact", about="OCR: two handwritten digits in a row, out of 0, 1, 4, 7"),
    "digit_choice": Skill(share=0.22, grader="choice", about="multiple choice: is it 0, 1 or 4, by its letter"),
    "digit_count": Skill(share=0.04, grader="exact", about="how many digits are written, from 1 to 3", rare=True),
}
RECURRING = {"grounding": 0.03, "list": 0.03}

EASY = (0, 1, 4, 7)  # seldom taken for one another


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS` or `RECURRING`; handwriting from the fold's own part."""
    if skill in RECURRING:
        return visual_chat.draw(skill, fold, rng)
    match skill:
        case "digit_count":
            count = 1 + int(rng.integers(3))
            cells = tuple(sorted(int(cell) for cell in rng.choice(GRID**2, count, replace=False)))
            writing = draw_handwriting(rng, fold, cells)
        case "two_digits":
            writing = draw_handwriting(rng, fold, (3, 4), EASY)
        case "digit_choice":
            writing = draw_handwriting(rng, fold, (4,), EASY[:3])
        case _:
            writing = draw_handwriting(rng, fold, (4,))
    read = [int(digits()[1][row]) for row in writing.rows]
    match skill:
        case "digit":
            ask = Ask(("Read the digit.", "Which digit is written?", "What is the digit?"), str(read[0]))
        case "two_digits":
            ask = Ask(("Read both digits.", "Which two digits are written?"), f"{read[0]} {read[1]}")
        case "digit_choice":
            words = ("Is it A. 0, B. 1 or C. 4? Give a letter.", "A. 0 B. 1 C. 4. Which letter fits the digit?")
            ask = Ask(words, "ABC"[EASY.index(read[0])])
        case "digit_count":
            number = ("one", "two", "three")[len(read) - 1]
            ask = Ask(("How many digits are written?", "Count the digits."), f"{number} written")
        case _:
            raise AssertionError(skill)
    return Idea((writing,), (ask,))

"""Third arrival: real handwritten digits (scikit-learn's `load_digits`, 1,797 images of 8 x 8), read and counted.

    <image> Read the digit.                             8
    <image> Read both digits.                           4 7
    <image> Is it A. 0, B. 1 or C. 4? Give a letter.    C
    <image> How many digits are written?                two written

No digit image is in two splits. `two_digits` and `digit_choice` use only digits that are seldom confused.
"""

import numpy as np

from adapt_infinity.embedded.datasets import visual_chat
from adapt_infinity.embedded.sample_specs import Question, SampleSpec, Skill
from adapt_infinity.embedded.scenes import GRID, digits, draw_handwriting

ABOUT = (
    "Third arrival: real handwriting (scikit-learn's `load_digits`, 1,797 images of 8 x 8), "
    "to be read and reasoned about."
)

SKILLS = {
    "digit": Skill(share=0.4, grader="numeric", about="OCR: one handwritten digit"),
    "two_digits": Skill(share=0.28, grader="exact", about="OCR: two handwritten digits in a row, out of 0, 1, 4, 7"),
    "digit_choice": Skill(share=0.22, grader="choice", about="multiple choice: is it 0, 1 or 4, by its letter"),
    "digit_count": Skill(share=0.04, grader="exact", about="how many digits are written, from 1 to 3", rare=True),
}
RECURRING = {"grounding": 0.03, "list": 0.03}

DISTINCT_DIGITS = (0, 1, 4, 7)  # seldom confused with each other


def draw(skill: str, split: str, rng: np.random.Generator) -> SampleSpec:
    """Draw one sample of a skill of `SKILLS` or `RECURRING`: its content; digits are images of `split`."""
    if skill in RECURRING:
        return visual_chat.draw(skill, split, rng)
    match skill:
        case "digit_count":
            count = 1 + int(rng.integers(3))
            cells = tuple(sorted(int(cell) for cell in rng.choice(GRID**2, count, replace=False)))
            writing = draw_handwriting(rng, split, cells)
        case "two_digits":
            writing = draw_handwriting(rng, split, (3, 4), DISTINCT_DIGITS)
        case "digit_choice":
            writing = draw_handwriting(rng, split, (4,), DISTINCT_DIGITS[:3])
        case _:
            writing = draw_handwriting(rng, split, (4,))
    values = [int(digits()[1][row]) for row in writing.rows]
    match skill:
        case "digit":
            question = Question(("Read the digit.", "Which digit is written?", "What is the digit?"), str(values[0]))
        case "two_digits":
            question = Question(("Read both digits.", "Which two digits are written?"), f"{values[0]} {values[1]}")
        case "digit_choice":
            wordings = ("Is it A. 0, B. 1 or C. 4? Give a letter.", "A. 0 B. 1 C. 4. Which letter fits the digit?")
            question = Question(wordings, "ABC"[DISTINCT_DIGITS.index(values[0])])
        case "digit_count":
            number = ("one", "two", "three")[len(values) - 1]
            question = Question(("How many digits are written?", "Count the digits."), f"{number} written")
        case _:
            raise AssertionError(skill)
    return SampleSpec((writing,), (question,))

"""Fourth arrival: bar charts, and tables given as text.

<image> What is the value of the red bar?                          value: 3
<image> Which bar is the highest?                                  the red bar
Table: red 4, blue 2, green 5. What is the value of blue?          value: 2
"""

import numpy as np

from adapt_infinity.embedded.datasets import languages, primitives, visual_chat
from adapt_infinity.embedded.ideas import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import COLOURS, HEIGHTS, Chart

SKILLS = {
    "bar_value": Skill(share=0.42, grader="numeric", about="charts: the value of a bar, from 1 to 3"),
    "highest_bar": Skill(share=0.26, grader="exact", about="charts: which bar is the highest"),
    "table": Skill(share=0.22, grader="numeric", about="language only: a value looked up in a table"),
    "lowest_bar": Skill(share=0.04, grader="exact", about="charts: which bar is the lowest", rare=True),
}
RECURRING = {"zh_colour": 0.02, "detail": 0.02, "size": 0.02}


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS` or `RECURRING`."""
    if skill in RECURRING:
        owner = next(dataset for dataset in (languages, visual_chat, primitives) if skill in dataset.SKILLS)
        return owner.draw(skill, fold, rng)
    colours = tuple(str(colour) for colour in rng.choice(list(COLOURS), 3, replace=False))
    distinct = skill in ("highest_bar", "lowest_bar")
    values = 9 if skill == "table" else HEIGHTS
    heights = tuple(int(height) for height in 1 + rng.choice(values, 3, replace=not distinct))
    chart = Chart((colours[0], colours[1], colours[2]), (heights[0], heights[1], heights[2]))
    which = int(rng.integers(3))
    words: tuple[str, ...]
    match skill:
        case "bar_value":
            words = ("What is the value of the {} bar?", "How high is the {} bar?", "Read off the {} bar.")
            ask = Ask(tuple(word.format(colours[which]) for word in words), f"value: {heights[which]}")
        case "highest_bar":
            words = ("Which bar is the highest?", "Name the tallest bar.")
            ask = Ask(words, f"the {colours[int(np.argmax(heights))]} bar")
        case "lowest_bar":
            words = ("Which bar is the lowest?", "Name the shortest bar.")
            ask = Ask(words, f"the {colours[int(np.argmin(heights))]} bar")
        case "table":
            cells = ", ".join(f"{colour} {height}" for colour, height in zip(colours, heights, strict=True))
            words = ("Table: {}. What is the value of {}?", "Given {}. Look up {}.")
            ask = Ask(tuple(word.format(cells, colours[which]) for word in words), f"value: {heights[which]}")
            return Idea((), (ask,))
        case _:
            raise AssertionError(skill)
    return Idea((chart,), (ask,))

"""Fourth arrival: bar charts, and table rows written as text.

<image> What is the value of the red bar?          value: 3
<image> Which bar is the highest?                  the red bar
<image> Do the bars rise or fall?                  they rise
Write as a row: red circle, blue square            red circle | blue square
"""

import numpy as np

from adapt_infinity.embedded.datasets import languages, primitives, visual_chat
from adapt_infinity.embedded.sample_specs import Question, SampleSpec, Skill, fill_question
from adapt_infinity.embedded.scenes import COLOURS, HEIGHTS, Chart, draw_scene

ABOUT = "Fourth arrival: bar charts, and tables written as text."

SKILLS = {
    "bar_value": Skill(share=0.42, grader="numeric", about="charts: the value of a bar, from 1 to 3"),
    "highest_bar": Skill(share=0.26, grader="exact", about="charts: which bar is the highest"),
    "table": Skill(share=0.22, grader="exact", about="language only: a list written as a table's row"),
    "trend": Skill(share=0.04, grader="exact", about="charts: whether the bars rise, fall or are level", rare=True),
}
RECURRING = {"zh_colour": 0.02, "detail": 0.02, "size": 0.02}

TRENDS = ("rise", "fall", "stay level")


def draw(skill: str, split: str, rng: np.random.Generator) -> SampleSpec:
    """Draw one sample of a skill of `SKILLS` or `RECURRING`: its content, without pixels."""
    if skill in RECURRING:
        owner = next(dataset for dataset in (languages, visual_chat, primitives) if skill in dataset.SKILLS)
        return owner.draw(skill, split, rng)
    if skill == "table":
        things = draw_scene(rng, 2, 2).things
        listed = ", ".join(thing.name for thing in things)
        answer = " | ".join(thing.name for thing in things)
        return SampleSpec((), (Question((f"Write as a row: {listed}", f"A row of a table with {listed}"), answer),))
    colours = tuple(str(colour) for colour in rng.choice(list(COLOURS), 3, replace=False))
    heights = [int(height) for height in 1 + rng.choice(HEIGHTS, 3, replace=skill != "highest_bar")]
    trend = TRENDS[int(rng.integers(len(TRENDS)))]
    if skill == "trend":
        heights = {"rise": [1, 2, 3], "fall": [3, 2, 1]}.get(trend, heights[:1] * 3)
    chart = Chart((colours[0], colours[1], colours[2]), (heights[0], heights[1], heights[2]))
    which = int(rng.integers(3))
    wordings: tuple[str, ...]
    match skill:
        case "bar_value":
            wordings = ("What is the value of the {} bar?", "How high is the {} bar?", "Read off the {} bar.")
            question = fill_question(wordings, colours[which], f"value: {heights[which]}")
        case "highest_bar":
            wordings = ("Which bar is the highest?", "Name the tallest bar.")
            question = Question(wordings, f"the {colours[int(np.argmax(heights))]} bar")
        case "trend":
            question = Question(
                ("Do the bars rise or fall?", "What do the bars do from left to right?"), f"they {trend}"
            )
        case _:
            raise AssertionError(skill)
    return SampleSpec((chart,), (question,))

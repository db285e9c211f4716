"""Fifth arrival: questions about two pictures, and comparisons of shapes within one picture.

<image><image> Name what is in each picture.             first a red circle, second a blue square
<image><image> What does the second picture show?        it shows a blue square
<image> Which shape is higher?                           the red circle is higher
<image> Which colour is the most common?                 mostly red
"""

import numpy as np

from adapt_infinity.embedded.datasets import digits, languages, primitives
from adapt_infinity.embedded.sample_specs import Question, SampleSpec, Skill
from adapt_infinity.embedded.scenes import COLOURS, GRID, SHAPES, SIZES, Scene, Thing, draw_scene

ABOUT = "Fifth arrival: two pictures at once, and how things stand to one another."

SKILLS = {
    "pair_list": Skill(share=0.26, grader="caption", about="two pictures: name what is in each"),
    "pair_second": Skill(share=0.28, grader="exact", about="two pictures: what the second one shows"),
    "relation": Skill(share=0.22, grader="exact", about="reasoning: which of two things is higher"),
    "most_common": Skill(share=0.14, grader="vqa", about="reasoning: the commonest colour"),
    "pair_count": Skill(share=0.04, grader="numeric", about="two pictures: shapes in the second one", rare=True),
}
RECURRING = {"digit": 0.02, "zh_shape": 0.02, "shape": 0.02}


def draw(skill: str, split: str, rng: np.random.Generator) -> SampleSpec:
    """Draw one sample of a skill of `SKILLS` or `RECURRING`: its content, without pixels."""
    if skill in RECURRING:
        owner = next(dataset for dataset in (digits, languages, primitives) if skill in dataset.SKILLS)
        return owner.draw(skill, split, rng)
    match skill:
        case "pair_list" | "pair_second":
            both = draw_scene(rng, 2, 2).things
            pair = [both[int(n)] for n in rng.permutation(2)]
            pictures = tuple(Scene((thing,)) for thing in pair)
            if skill == "pair_list":
                answer = f"first a {pair[0].name}, second a {pair[1].name}"
                return SampleSpec(
                    pictures, (Question(("Name what is in each picture.", "Compare the two pictures."), answer),)
                )
            wordings = ("What does the second picture show?", "Name the thing in the second picture.")
            return SampleSpec(pictures, (Question(wordings, f"it shows a {pair[1].name}"),))
        case "pair_count":
            first, second = draw_scene(rng, 1, 3), draw_scene(rng, 1, 3)
            wordings = ("How many shapes are in the second picture?", "Count the second picture's shapes.")
            return SampleSpec((first, second), (Question(wordings, f"it has {len(second.things)}"),))
        case "relation":
            rows = sorted(int(row) for row in rng.choice(GRID, 2, replace=False))
            cells = tuple(GRID * row + int(rng.integers(GRID)) for row in rows)
            scene = draw_scene(rng, 2, 2, cells=cells)
            wordings = ("Which shape is higher?", "Which of the two shapes is further up?")
            return SampleSpec((scene,), (Question(wordings, f"the {scene.things[0].name} is higher"),))
        case "most_common":
            often, once = (str(colour) for colour in rng.choice(list(COLOURS), 2, replace=False))
            count = int(rng.integers(3, 5))
            spots = sorted(int(cell) for cell in rng.choice(GRID**2, count, replace=False))
            colours = [often] * count
            colours[int(rng.integers(count))] = once
            shapes, sizes = rng.choice(SHAPES, count), rng.choice(list(SIZES), count)
            things = tuple(
                Thing(colour, str(shape), str(size), cell)
                for colour, shape, size, cell in zip(colours, shapes, sizes, spots, strict=True)
            )
            wordings = ("Which colour is the most common?", "Name the commonest colour.")
            return SampleSpec((Scene(things),), (Question(wordings, f"mostly {often}"),))
    raise AssertionError(skill)

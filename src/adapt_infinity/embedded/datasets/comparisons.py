"""Fifth arrival: two pictures at once, and how things stand to one another.

    <image><image> Name what is in each picture.             first a red circle, second a blue square
    <image><image> Which picture shows the red shape?        the first picture
    <image> How does the red circle lie to the blue ring?    to the left
    <image> Which colour is the most common?                 mostly red
"""

import numpy as np

from adapt_infinity.embedded.datasets import digits, languages, primitives
from adapt_infinity.embedded.ideas import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import COLOURS, GRID, SHAPES, SIZES, Scene, Thing, draw_scene

SKILLS = {
    "pair_list": Skill(share=0.26, grader="caption", about="two pictures: name what is in each"),
    "pair_which": Skill(share=0.28, grader="exact", about="two pictures: which one shows the colour"),
    "relation": Skill(share=0.22, grader="exact", about="reasoning: left, right, above or below"),
    "most_common": Skill(share=0.14, grader="vqa", about="reasoning: the commonest colour"),
    "pair_count": Skill(share=0.04, grader="numeric", about="two pictures: shapes in the second one", rare=True),
}
RECURRING = {"digit": 0.02, "zh_shape": 0.02, "shape": 0.02}


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS` or `RECURRING`."""
    if skill in RECURRING:
        owner = next(dataset for dataset in (digits, languages, primitives) if skill in dataset.SKILLS)
        return owner.draw(skill, fold, rng)
    match skill:
        case "pair_list" | "pair_which":
            both = draw_scene(rng, 2, 2).things
            pair = [both[int(n)] for n in rng.permutation(2)]
            pictures = tuple(Scene((thing,)) for thing in pair)
            if skill == "pair_list":
                answer = f"first a {pair[0].name}, second a {pair[1].name}"
                return Idea(pictures, (Ask(("Name what is in each picture.", "Compare the two pictures."), answer),))
            which = int(rng.integers(2))
            words = ("Which picture shows the {} shape?", "In which picture is something {}?")
            answer = ("the first picture", "the second picture")[which]
            return Idea(pictures, (Ask(tuple(word.format(pair[which].colour) for word in words), answer),))
        case "pair_count":
            first, second = draw_scene(rng, 1, 3), draw_scene(rng, 1, 3)
            words = ("How many shapes are in the second picture?", "Count the second picture's shapes.")
            return Idea((first, second), (Ask(words, f"it has {len(second.things)}"),))
        case "relation":
            line = int(rng.integers(GRID))
            across = rng.random() < 0.5
            cells = (GRID * line, GRID * line + GRID - 1) if across else (line, GRID * (GRID - 1) + line)
            scene = draw_scene(rng, 2, 2, cells=cells)
            here = int(rng.integers(2))
            one, other = scene.things[here], scene.things[1 - here]
            words = ("How does the {0} lie to the {1}?", "Seen from the {1}, which way is the {0}?")
            answer = (("to the left", "to the right") if across else ("above it", "below it"))[here]
            return Idea((scene,), (Ask(tuple(word.format(one.name, other.name) for word in words), answer),))
        case "most_common":
            often, once = (str(colour) for colour in rng.choice(list(COLOURS), 2, replace=False))
            count = int(rng.integers(3, 5))
            cells = sorted(int(cell) for cell in rng.choice(GRID**2, count, replace=False))
            colours = [often] * count
            colours[int(rng.integers(count))] = once
            shapes, sizes = rng.choice(SHAPES, count), rng.choice(list(SIZES), count)
            things = tuple(
                Thing(colour, str(shape), str(size), cell)
                for colour, shape, size, cell in zip(colours, shapes, sizes, cells, strict=True)
            )
            words = ("Which colour is the most common?", "Name the commonest colour.")
            return Idea((Scene(things),), (Ask(words, f"mostly {often}"),))
    raise AssertionError(skill)

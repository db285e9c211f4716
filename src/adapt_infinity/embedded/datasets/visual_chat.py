"""First arrival: long descriptions, answers in sentences over several turns, and boxes.

<image> Describe the picture in detail.        There are 2 shapes. A large red circle is at the top left. ...
<image> In a sentence: which colour has ...    The circle is red.
<image> Give the box of the red circle.        [0.33, 0.00, 0.67, 0.33]
<image> What is inside [0.33, 0.00, ...]?      a red circle
"""

import numpy as np

from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.sample_specs import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import Thing, draw_scene

SKILLS = {
    "detail": Skill(share=0.22, grader="caption", about="a long description with sizes and places"),
    "sentence": Skill(share=0.18, grader="vqa", about="VQA in full sentences, often over two turns"),
    "grounding": Skill(share=0.5, grader="iou", about="the box of a thing, in thirds of the picture"),
    "region": Skill(share=0.04, grader="exact", about="the thing inside a box", rare=True),
}
RECURRING = {"colour": 0.02, "exists": 0.02, "list": 0.02}


def box_text(thing: Thing) -> str:
    """Such as "[0.33, 0.00, 0.67, 0.33]"."""
    return "[" + ", ".join(f"{edge:.2f}" for edge in thing.box) + "]"


def grounding(thing: Thing) -> Ask:
    """Where is it, as a box."""
    words = ("Give the box of the {}.", "Locate the {} with a box.", "Box coordinates of the {}?")
    return Ask(tuple(word.format(thing.name) for word in words), box_text(thing))


def sentence(thing: Thing, about: str) -> Ask:
    """A full sentence on a thing's colour or place."""
    if about == "colour":
        words = ("In a sentence, which colour does the {} have?", "Say in a sentence what colour the {} is.")
        return Ask(tuple(word.format(thing.shape) for word in words), f"The {thing.shape} is {thing.colour}.")
    words = ("In a sentence, where is the {} one?", "Say in a sentence where the {} one is.")
    return Ask(tuple(word.format(thing.colour) for word in words), f"It is at the {thing.place}.")


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS` or `RECURRING`."""
    if skill in primitives.SKILLS:
        return primitives.draw(skill, fold, rng)
    scene = draw_scene(rng, 1, 3)
    order = rng.permutation(len(scene.things))
    thing = scene.things[int(order[0])]
    words: tuple[str, ...]
    match skill:
        case "detail":
            count = len(scene.things)
            parts = ["There is 1 shape." if count == 1 else f"There are {count} shapes."]
            parts += [f"A {thing.size} {thing.name} is at the {thing.place}." for thing in scene.things]
            words = ("Describe the picture in detail.", "Give a detailed description.", "Explain all that you see.")
            return Idea((scene,), (Ask(words, " ".join(parts)),))
        case "sentence":
            abouts = ["colour", "place"] if rng.random() < 0.5 else ["place", "colour"]
            turns = [sentence(scene.things[int(n)], about) for n, about in zip(order, abouts, strict=False)]
            return Idea((scene,), tuple(turns))
        case "grounding":
            return Idea((scene,), (grounding(thing),))
        case "region":
            words = ("What is inside {}?", "Name the thing in {}.")
            return Idea((scene,), (Ask(tuple(word.format(box_text(thing)) for word in words), f"a {thing.name}"),))
    raise AssertionError(skill)

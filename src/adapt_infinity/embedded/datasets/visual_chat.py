"""First arrival: long descriptions, answers in full sentences over several turns, and bounding boxes.

<image> Describe the picture in detail.        There are 2 shapes. A large red circle is at the top left. ...
<image> In a sentence: which colour has ...    The circle is red.
<image> Give the box of the red circle.        [0.33, 0.00, 0.67, 0.33]
<image> What is inside [0.33, 0.00, ...]?      a red circle
"""

import numpy as np

from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.sample_specs import Question, SampleSpec, Skill, fill_question
from adapt_infinity.embedded.scenes import Thing, draw_scene

ABOUT = "First arrival: long descriptions, answers in sentences over several turns, and boxes."

SKILLS = {
    "detail": Skill(share=0.22, grader="caption", about="a long description with sizes and places"),
    "sentence": Skill(share=0.18, grader="vqa", about="VQA in full sentences, often over two turns"),
    "grounding": Skill(share=0.5, grader="iou", about="the box of a thing, in thirds of the picture"),
    "region": Skill(share=0.04, grader="exact", about="the thing inside a box", rare=True),
}
RECURRING = {"colour": 0.02, "exists": 0.02, "list": 0.02}


def box_text(thing: Thing) -> str:
    """The box of a thing as text, [x1, y1, x2, y2] in shares of the sides, such as "[0.33, 0.00, 0.67, 0.33]"."""
    return "[" + ", ".join(f"{edge:.2f}" for edge in thing.box) + "]"


def ask_box(thing: Thing) -> Question:
    """The question for the box of a thing."""
    wordings = ("Give the box of the {}.", "Locate the {} with a box.", "Box coordinates of the {}?")
    return fill_question(wordings, thing.name, box_text(thing))


def ask_sentence(thing: Thing, about: str) -> Question:
    """A question that wants a full sentence about a thing's colour or place."""
    if about == "colour":
        wordings = ("In a sentence, which colour does the {} have?", "Say in a sentence what colour the {} is.")
        return fill_question(wordings, thing.shape, f"The {thing.shape} is {thing.colour}.")
    wordings = ("In a sentence, where is the {} one?", "Say in a sentence where the {} one is.")
    return fill_question(wordings, thing.colour, f"It is at the {thing.place}.")


def draw(skill: str, split: str, rng: np.random.Generator) -> SampleSpec:
    """Draw one sample of a skill of `SKILLS` or `RECURRING`: its content, without pixels."""
    if skill in primitives.SKILLS:
        return primitives.draw(skill, split, rng)
    scene = draw_scene(rng, 1, 3)
    order = rng.permutation(len(scene.things))
    thing = scene.things[int(order[0])]
    wordings: tuple[str, ...]
    match skill:
        case "detail":
            count = len(scene.things)
            parts = ["There is 1 shape." if count == 1 else f"There are {count} shapes."]
            parts += [f"A {thing.size} {thing.name} is at the {thing.place}." for thing in scene.things]
            wordings = ("Describe the picture in detail.", "Give a detailed description.", "Explain all that you see.")
            return SampleSpec((scene,), (Question(wordings, " ".join(parts)),))
        case "sentence":
            abouts = ["colour", "place"] if rng.random() < 0.5 else ["place", "colour"]
            turns = [ask_sentence(scene.things[int(n)], about) for n, about in zip(order, abouts, strict=False)]
            return SampleSpec((scene,), tuple(turns))
        case "grounding":
            return SampleSpec((scene,), (ask_box(thing),))
        case "region":
            wordings = ("What is inside {}?", "Name the thing in {}.")
            return SampleSpec((scene,), (fill_question(wordings, box_text(thing), f"a {thing.name}"),))
    raise AssertionError(skill)

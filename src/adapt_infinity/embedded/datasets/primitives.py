"""Base dataset: colour, shape, size, number and place of shapes, and repeating words. Pre-training uses it.

<image> What colour is the circle?      red
<image> Where is the red circle?        top left
<image> List the shapes.                red circle, blue square
Repeat: river lamp stone                river lamp stone
"""

import numpy as np

from adapt_infinity.embedded.sample_specs import Question, SampleSpec, Skill, fill_question
from adapt_infinity.embedded.scenes import COLOURS, SHAPES, Scene, draw_scene

ABOUT = (
    "What the embedded model knows before any arrival: the look, the number and the place of things, "
    "and to repeat words."
)

WORDS = (
    "river",
    "lamp",
    "stone",
    "garden",
    "window",
    "music",
    "paper",
    "winter",
    "horse",
    "bread",
    "silver",
    "market",
    "doctor",
    "bridge",
    "candle",
    "forest",
    "kitchen",
    "letter",
    "mountain",
    "number",
    "orange",
    "pencil",
    "queen",
    "rabbit",
    "school",
    "table",
    "uncle",
    "village",
    "water",
    "yellow",
    "zebra",
    "apple",
    "butter",
    "coffee",
    "dinner",
    "engine",
    "flower",
    "guitar",
    "hammer",
    "island",
)

SKILLS = {
    "colour": Skill(share=0.14, grader="exact", about="the colour of a shape"),
    "shape": Skill(share=0.12, grader="exact", about="the shape of a colour"),
    "size": Skill(share=0.1, grader="exact", about="small or large"),
    "count": Skill(share=0.1, grader="numeric", about="how many shapes, from 1 to 5"),
    "place": Skill(share=0.12, grader="exact", about="where a thing is, in words"),
    "exists": Skill(share=0.12, grader="exact", about="is there a thing of this colour"),
    "at_place": Skill(share=0.12, grader="exact", about="which thing is at a place"),
    "list": Skill(share=0.12, grader="caption", about="short captions: the things in reading order"),
    "echo": Skill(share=0.06, grader="exact", about="language only: repeat words"),
}


def ask_question(skill: str, scene: Scene, rng: np.random.Generator) -> Question:
    """Draw a question of a primitive skill about a scene; the scene's colours and shapes must all be different."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    match skill:
        case "colour":
            wordings = ("What colour is the {}?", "Tell me the colour of the {}.", "The {} has which colour?")
            return fill_question(wordings, thing.shape, thing.colour)
        case "shape":
            wordings = ("What shape is the {} one?", "Tell me the shape of the {} one.", "The {} one has which shape?")
            return fill_question(wordings, thing.colour, thing.shape)
        case "size":
            wordings = ("Is the {} small or large?", "Tell me the size of the {}.", "How big is the {}?")
            return fill_question(wordings, thing.name, thing.size)
        case "count":
            wordings = ("How many shapes are there?", "Count the shapes.", "What is the number of shapes?")
            return Question(wordings, str(len(scene.things)))
        case "place":
            wordings = ("Where is the {}?", "Tell me the place of the {}.", "In which part is the {}?")
            return fill_question(wordings, thing.name, thing.place)
        case "exists":
            present = [thing.colour for thing in scene.things]
            absent = [colour for colour in COLOURS if colour not in present]
            there = rng.random() < 0.5
            colour = str(rng.choice(present if there else absent))
            wordings = ("Is there a {} shape?", "Is anything {}?", "Does the picture show a {} shape?")
            return fill_question(wordings, colour, "yes" if there else "no")
        case "at_place":
            wordings = ("What is at the {}?", "Which shape is at the {}?", "Name the thing at the {}.")
            return fill_question(wordings, thing.place, thing.name)
        case "list":
            names = ", ".join(thing.name for thing in scene.things)
            return Question(("List the shapes.", "Which shapes are there?", "Name all shapes."), names)
    raise AssertionError(skill)


def draw(skill: str, split: str, rng: np.random.Generator) -> SampleSpec:
    """Draw one sample of a skill of `SKILLS`: its content, without pixels."""
    if skill == "echo":
        text = " ".join(rng.choice(WORDS, 3, replace=False))
        return SampleSpec((), (Question((f"Repeat: {text}", f"Say again: {text}", f"Say after me: {text}"), text),))
    most = {"list": 3, "count": len(SHAPES)}.get(skill, 4)
    scene = draw_scene(rng, 1, most)
    return SampleSpec((scene,), (ask_question(skill, scene, rng),))

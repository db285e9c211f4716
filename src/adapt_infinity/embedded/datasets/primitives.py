"""What the embedded model knows before any arrival: the look, the number and the place of things, and to repeat words.

<image> What colour is the circle?      red
<image> Where is the red circle?        top left
<image> List the shapes.                red circle, blue square
Repeat: river lamp stone                river lamp stone
"""

import numpy as np

from adapt_infinity.embedded.sample_specs import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import COLOURS, SHAPES, Scene, draw_scene

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


def ask(skill: str, scene: Scene, rng: np.random.Generator) -> Ask:
    """A question of a primitive skill about a scene whose colours and shapes are all different."""
    thing = scene.things[int(rng.integers(len(scene.things)))]
    match skill:
        case "colour":
            words = ("What colour is the {}?", "Tell me the colour of the {}.", "The {} has which colour?")
            return Ask(tuple(word.format(thing.shape) for word in words), thing.colour)
        case "shape":
            words = ("What shape is the {} one?", "Tell me the shape of the {} one.", "The {} one has which shape?")
            return Ask(tuple(word.format(thing.colour) for word in words), thing.shape)
        case "size":
            words = ("Is the {} small or large?", "Tell me the size of the {}.", "How big is the {}?")
            return Ask(tuple(word.format(thing.name) for word in words), thing.size)
        case "count":
            words = ("How many shapes are there?", "Count the shapes.", "What is the number of shapes?")
            return Ask(words, str(len(scene.things)))
        case "place":
            words = ("Where is the {}?", "Tell me the place of the {}.", "In which part is the {}?")
            return Ask(tuple(word.format(thing.name) for word in words), thing.place)
        case "exists":
            present = [thing.colour for thing in scene.things]
            absent = [colour for colour in COLOURS if colour not in present]
            there = rng.random() < 0.5
            colour = str(rng.choice(present if there else absent))
            words = ("Is there a {} shape?", "Is anything {}?", "Does the picture show a {} shape?")
            return Ask(tuple(word.format(colour) for word in words), "yes" if there else "no")
        case "at_place":
            words = ("What is at the {}?", "Which shape is at the {}?", "Name the thing at the {}.")
            return Ask(tuple(word.format(thing.place) for word in words), thing.name)
        case "list":
            names = ", ".join(thing.name for thing in scene.things)
            return Ask(("List the shapes.", "Which shapes are there?", "Name all shapes."), names)
    raise AssertionError(skill)


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS`."""
    if skill == "echo":
        said = " ".join(rng.choice(WORDS, 3, replace=False))
        return Idea((), (Ask((f"Repeat: {said}", f"Say again: {said}", f"Say after me: {said}"), said),))
    most = {"list": 3, "count": len(SHAPES)}.get(skill, 4)
    scene = draw_scene(rng, 1, most)
    return Idea((scene,), (ask(skill, scene, rng),))

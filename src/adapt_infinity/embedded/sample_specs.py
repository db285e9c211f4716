"""What the embedded datasets have in common: a skill's entry, and a sample's content before it has pixels and words.

A `SampleSpec` that is rendered twice gives two near-duplicates: the same content in other pixels, and the same
questions in the same wording or in another.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from adapt_infinity.embedded.scenes import Picture, render


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One skill of a dataset."""

    share: float  # of the training samples of the dataset that introduces it
    grader: str  # a file of `adapt_infinity.benchmarks.graders`
    about: str
    rare: bool = False


@dataclass(frozen=True)
class Question:
    """A question in several wordings, and its one answer."""

    wordings: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class SampleSpec:
    """The content of a sample: described pictures, and questions about them; no pictures for a language-only skill."""

    pictures: tuple[Picture, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Item:
    """A rendered sample: its pixels, and its (question, answer) turns in order. Pictures precede the first question."""

    skill: str
    pixels: tuple[UInt8[np.ndarray, "36 36 3"], ...]
    turns: tuple[tuple[str, str], ...]


def fill_question(wordings: tuple[str, ...], name: str, answer: str) -> Question:
    """A question whose wordings have `{}` where `name` belongs."""
    return Question(tuple(wording.format(name) for wording in wordings), answer)


def draw_wording(question: Question, rng: np.random.Generator) -> str:
    """One of the question's wordings, each with the same probability."""
    return question.wordings[int(rng.integers(len(question.wordings)))]


def render_item(skill: str, spec: SampleSpec, wording: int, rng: np.random.Generator) -> Item:
    """Render a sample: pixels drawn from `rng`, and of each question wording number `wording` modulo their count."""
    return Item(
        skill=skill,
        pixels=tuple(render(picture, rng) for picture in spec.pictures),
        turns=tuple(
            (question.wordings[wording % len(question.wordings)], question.answer) for question in spec.questions
        ),
    )

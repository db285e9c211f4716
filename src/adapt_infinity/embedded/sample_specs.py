"""What every embedded dataset speaks: a skill's entry in the table, and an idea, a sample before its pixels and words.

An idea realised twice gives two samples that are near-duplicates by construction: the same pictures drawn anew, the
same questions in the same words or in others.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from adapt_infinity.embedded.scenes import Picture, render


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A row of the table of skills."""

    share: float  # of the owning dataset's training samples
    grader: str
    about: str
    rare: bool = False


@dataclass(frozen=True)
class Ask:
    """A question in several wordings, and its one answer."""

    wordings: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Idea:
    """Pictures and the questions asked about them; no pictures for a language-only idea."""

    pictures: tuple[Picture, ...]
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Item:
    """A sample: pixels, and (question, answer) in order. The pictures stand before the first question."""

    skill: str
    pixels: tuple[UInt8[np.ndarray, "36 36 3"], ...]
    turns: tuple[tuple[str, str], ...]


def realise(skill: str, idea: Idea, wording: int, rng: np.random.Generator) -> Item:
    """The idea in its `wording`-th words (counted round), with fresh pixels from `rng`."""
    return Item(
        skill=skill,
        pixels=tuple(render(picture, rng) for picture in idea.pictures),
        turns=tuple((ask.wordings[wording % len(ask.wordings)], ask.answer) for ask in idea.asks),
    )

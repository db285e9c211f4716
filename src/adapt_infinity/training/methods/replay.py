"""Replay: some of what is trained on gives way to samples of earlier datasets, drawn uniformly from what the pool still
has of each (He et al., arXiv:2311.16206, section 4; METHOD section 10). The number of samples, and of steps, stays.

Each earlier dataset gets `share` of the round's samples, or `memory` / (their number) when `memory` is set; together
never more than leaves every dataset, the new one included, an equal part.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adapt_infinity.parameters import NonNegativeInt, Share, check
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext, draw
from adapt_infinity.training.method_state import MethodState


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.replay."""

    SECTION: ClassVar[str] = "methods.replay"

    share: Share = 0.1  # ρ: of the round's samples, to each earlier dataset
    memory: NonNegativeInt = 0  # M: samples of all earlier datasets together; 0 = `share` decides

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(share=0.0, memory=0)


def choose(ids: np.ndarray, memory: ReplayMemory, params: Params, seed: int) -> np.ndarray:
    """The samples to train on: `ids`, some of them replaced; as many as before, none twice."""
    others = ~np.isin(memory.ids, ids)
    old, sources = memory.ids[others], memory.sources[others]
    names = np.unique(sources)
    if len(names) == 0:
        return ids
    wanted = params.memory // len(names) if params.memory else int(params.share * len(ids))
    each = min(wanted, len(ids) // (len(names) + 1))
    drawn = [draw(old[sources == name], each, seed, memory.round, place) for place, name in enumerate(names)]
    replayed = np.concatenate(drawn)
    return np.concatenate([draw(ids, len(ids) - len(replayed), seed, memory.round), replayed])


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """All of it is in the choice."""
    return StepCallbacks(at_end=lambda: MethodState("replay"))

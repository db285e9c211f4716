"""Replay: some training samples are replaced by samples of earlier datasets (He et al., arXiv:2311.16206, section 4).

They are drawn uniformly from the samples that are still in the pool (docs/method.md, section 10). The numbers of
samples and of steps stay the same.

Each earlier dataset gets `share` of the round's samples, or `memory` / (number of earlier datasets) samples if `memory`
is set; but never so many that the new dataset gets less than each of them.
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

    share: Share = 0.1  # ρ, the share of the round's samples for each earlier dataset
    memory: NonNegativeInt = 0  # M, the samples of all earlier datasets together; 0 = `share` is used

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(share=0.0, memory=0)


def replace_samples(ids: np.ndarray, memory: ReplayMemory, params: Params, seed: int) -> np.ndarray:
    """The ids of the samples to train on: `ids`, some of them replaced; equally many, and none twice."""
    available = ~np.isin(memory.ids, ids)
    old, sources = memory.ids[available], memory.sources[available]
    names = np.unique(sources)
    if len(names) == 0:
        return ids
    wanted = params.memory // len(names) if params.memory else int(params.share * len(ids))
    each = min(wanted, len(ids) // (len(names) + 1))
    drawn = [draw(old[sources == name], each, seed, memory.round, number) for number, name in enumerate(names)]
    replayed = np.concatenate(drawn)
    return np.concatenate([draw(ids, len(ids) - len(replayed), seed, memory.round), replayed])


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add nothing to the training loop: the whole method is in the choice of samples."""
    return StepCallbacks(at_end=lambda: MethodState("replay"))

"""The parameters of the embedded model's pre-training, and its learning-rate schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adapt_infinity.parameters import NonNegativeFloat, NonNegativeInt, PositiveInt, Seed, Share, check


@dataclass(frozen=True, kw_only=True)
class EmbeddedModelParams:
    """params:embedded_model."""

    SECTION: ClassVar[str] = "embedded_model"

    seed: Seed = 0
    vocabulary: PositiveInt = 900  # tokens
    stage_1_steps: NonNegativeInt = 900  # of 64 pictures each
    stage_1_lr: NonNegativeFloat = 2e-3  # peak learning rate
    stage_2_steps: NonNegativeInt = 2400
    stage_2_lr: NonNegativeFloat = 1.5e-3
    stage_3_steps: NonNegativeInt = 1000
    stage_3_lr: NonNegativeFloat = 1e-3
    stage_4_steps: NonNegativeInt = 600
    stage_4_lr: NonNegativeFloat = 1.2e-3
    vision_lr: NonNegativeFloat = 0.2  # learning rate of the vision tower, as a multiple of the stage's (stages 2 to 4)
    batch: PositiveInt = 32  # conversations per step
    turns: PositiveInt = 6  # questions per conversation
    echo: Share = 0.2  # of the conversations begin with repeating words
    described: Share = 0.5  # of stage 3's conversations are about pictures described in words
    warmup: NonNegativeInt = 100  # steps of linear warm-up in each stage
    weight_decay: NonNegativeFloat = 0.05

    def __post_init__(self) -> None:
        check(self)


def cosine(warmup: int, steps: int) -> Callable[[int], float]:
    """The learning rate at a step, as a share of the peak: linear warm-up, then a cosine down to zero."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))

    return factor

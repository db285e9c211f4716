"""The parameters of the embedded model's pre-training, and its learning-rate schedule."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class EmbeddedModelParams:
    """params:embedded_model."""

    seed: int = 0
    vocabulary: int = 900  # tokens
    seeing_steps: int = 900  # of stage 1, with 64 pictures per step
    seeing_lr: float = 2e-3  # peak learning rate of stage 1
    steps: int = 2400  # of stage 2
    batch: int = 32  # conversations per step
    turns: int = 6  # questions per conversation
    echo: float = 0.2  # share of conversations that begin with repeating words
    lr: float = 1.5e-3  # peak learning rate of stage 2
    vision_lr: float = 0.2  # learning rate of the vision tower, as a multiple of the stage's (stages 2 to 4)
    talking_steps: int = 1000  # of stage 3
    talking_lr: float = 1e-3  # peak learning rate of stage 3
    talk: float = 0.5  # share of stage 3's conversations that are about pictures described in words
    practising_steps: int = 600  # of stage 4
    practising_lr: float = 1.2e-3  # peak learning rate of stage 4
    warmup: int = 100  # steps of linear warm-up in each stage
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        for name in ("vocabulary", "batch", "turns"):
            if getattr(self, name) < 1:
                raise ValueError(f"embedded_model.{name} must be at least 1, got {getattr(self, name)}")
        steps = ("seeing_steps", "steps", "talking_steps", "practising_steps", "warmup")
        for name in (*steps, "seeing_lr", "lr", "talking_lr", "practising_lr", "vision_lr", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"embedded_model.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.echo <= 1:
            raise ValueError(f"embedded_model.echo must lie in [0, 1], got {self.echo}")


def cosine(warmup: int, steps: int) -> Callable[[int], float]:
    """The learning rate at a step, as a share of the peak: linear warm-up, then a cosine down to zero."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))

    return factor

"""LwF: learning without forgetting (Li & Hoiem 2016, arXiv:1606.09282). On the new data, the model keeps saying what
it would have said before the round:

    + λ T² KL(previous ‖ current), both at temperature T, over answer tokens

The teacher is this model with the weights that the round began with: they take the place of the current ones for a
forward pass, so there is no second model, and nothing to carry from round to round.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.model.checkpoint import Batch
from adapt_infinity.parameters import NonNegativeFloat, PositiveFloat, check
from adapt_infinity.training.context import Labels, Logits, StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.lwf."""

    SECTION: ClassVar[str] = "methods.lwf"

    strength: NonNegativeFloat = 1.0  # λ
    temperature: PositiveFloat = 2.0  # T

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, temperature=2.0)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """The teacher is the model as it is now."""
    teacher = lesson.weights.theta.clone()

    def on_batch(batch: Batch, logits: Logits, labels: Labels) -> Tensor:
        with torch.no_grad(), lesson.weights.holding(teacher):
            before, _ = lesson.read(batch)
        return params.strength * divergence(before, logits, labels, params.temperature)

    return StepCallbacks(on_batch=on_batch, at_end=lambda: MethodState("lwf"))


def divergence(before: Logits, now: Logits, labels: Labels, temperature: float) -> Tensor:
    """T² KL(before ‖ now), summed over answer tokens: 0 where nothing has changed, else greater."""
    old, new = log_softmax(before / temperature, dim=-1), log_softmax(now / temperature, dim=-1)
    each = (old.exp() * (old - new)).sum(dim=-1)
    return temperature**2 * (each * (labels != IGNORED_LABEL)).sum()

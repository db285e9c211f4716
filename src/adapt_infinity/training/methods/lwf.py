"""LwF: learning without forgetting (Li & Hoiem 2016, arXiv:1606.09282).

On the new data, the model's predictions are held near those that it made before the round:

    + λ T² KL(previous ‖ current), both at temperature T, over answer tokens

The teacher is the same model with the weights with which the round began. They replace the current weights for one
forward pass, so there is no second model, and no state to carry from round to round.
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


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add the divergence from the teacher, which is the model as it is now, to the loss of every micro-batch."""
    teacher = context.weights.theta.clone()

    def on_batch(batch: Batch, logits: Logits, labels: Labels) -> Tensor:
        with torch.no_grad(), context.weights.replaced_by(teacher):
            previous, _ = context.forward(batch)
        return params.strength * divergence(previous, logits, labels, params.temperature)

    return StepCallbacks(on_batch=on_batch, at_end=lambda: MethodState("lwf"))


def divergence(previous: Logits, current: Logits, labels: Labels, temperature: float) -> Tensor:
    """T² KL(previous ‖ current), in nats, summed over answer tokens; 0 if nothing has changed."""
    log_previous, log_current = (log_softmax(logits / temperature, dim=-1) for logits in (previous, current))
    per_token = (log_previous.exp() * (log_previous - log_current)).sum(dim=-1)
    return temperature**2 * (per_token * (labels != IGNORED_LABEL)).sum()

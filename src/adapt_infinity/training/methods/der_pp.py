"""DER++: as DER, and also trains on the answers of the samples that are read again (Buzzega et al. 2020,
arXiv:2004.07211, eq. 6).

    + α mean (z − z_stored)² + β cross-entropy

The two terms use two different draws of stored samples in every step.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from adapt_infinity.parameters import NonNegativeFloat, PositiveInt, check
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.schedule import Step
from adapt_infinity.training.stored_logits import StoredLogits, draw_stored, replay_loss, replay_stored


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.der_pp."""

    SECTION: ClassVar[str] = "methods.der_pp"

    alpha: NonNegativeFloat = 0.1  # weight of the distance to the stored logits
    beta: NonNegativeFloat = 0.5  # weight of the cross-entropy on the stored samples
    memory: PositiveInt = 400  # samples of all rounds together whose logits are stored
    memory_batch: PositiveInt = 16  # of these, samples read again with every step for each of the two terms
    top: PositiveInt = 32  # the number of largest logits stored per answer token

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(alpha=0.0, beta=0.0, memory=8, memory_batch=2, top=32)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add both terms to every step, from the second round on; store logits for the next round."""

    def term_of(stored: StoredLogits, step: Step) -> Tensor:
        first, second = (draw_stored(context, stored, params.memory_batch, step, which) for which in (0, 1))
        squared, _ = replay_loss(context, stored, first)
        _, loss = replay_loss(context, stored, second)
        return params.alpha * squared + params.beta * loss

    return replay_stored(context, state, params.memory, params.top, term_of)

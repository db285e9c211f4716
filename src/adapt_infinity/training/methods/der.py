"""DER: dark experience replay (Buzzega et al. 2020, arXiv:2004.07211).

With every step some samples of earlier rounds are read again. The term

    + α mean (z − z_stored)²

keeps the logits z at their answer tokens near the logits that the model had when it had just been trained on them.
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
    """methods.der."""

    SECTION: ClassVar[str] = "methods.der"

    alpha: NonNegativeFloat = 0.1  # weight of the distance to the stored logits
    memory: PositiveInt = 400  # samples of all rounds together whose logits are stored
    memory_batch: PositiveInt = 16  # of these, samples read again with every step
    top: PositiveInt = 32  # the number of largest logits stored per answer token

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(alpha=0.0, memory=8, memory_batch=2, top=32)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add the term to every step, from the second round on; store logits for the next round."""

    def term_of(stored: StoredLogits, step: Step) -> Tensor:
        squared, _ = replay_loss(context, stored, draw_stored(context, stored, params.memory_batch, step))
        return params.alpha * squared

    return replay_stored(context, state, params.memory, params.top, term_of)

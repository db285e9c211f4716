"""Fine-tuning: cross-entropy on what was chosen, and nothing against forgetting. What every method is compared with."""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.finetune: there is nothing to set."""

    SECTION: ClassVar[str] = "methods.finetune"


PLAIN = Params()


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Nothing beside the loss."""
    return StepCallbacks(at_end=lambda: MethodState("finetune"))

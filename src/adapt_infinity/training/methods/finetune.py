"""Fine-tuning: cross-entropy on the training samples, with nothing against forgetting. All other methods are compared
with it.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.finetune: there is nothing to set."""

    SECTION: ClassVar[str] = "methods.finetune"


PLAIN = Params()


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add nothing to the training loop."""
    return StepCallbacks(at_end=lambda: MethodState("finetune"))

"""DER: dark experience replay (Buzzega et al. 2020, arXiv:2004.07211). With every step some remembered samples are read
again, and

    + α mean (z − z_kept)²

keeps the logits z at their answer tokens where they were when the samples had just been learned.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.parameters import NonNegativeFloat, PositiveInt, check
from adapt_infinity.training import stored_logits
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.schedule import Step


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.der."""

    SECTION: ClassVar[str] = "methods.der"

    alpha: NonNegativeFloat = 0.1  # weight of the distance to the stored logits
    memory: PositiveInt = 400  # samples whose logits are kept, of all rounds together
    memory_batch: PositiveInt = 16  # of them, read again with every step
    top: PositiveInt = 32  # logits kept at an answer token, the largest

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(alpha=0.0, memory=8, memory_batch=2, top=32)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """From the second round on: in the first there is nothing to remember."""
    known = stored_logits.recalled(state)

    def on_gradient(step: Step) -> float:
        assert known is not None
        squared, _ = stored_logits.distance(
            lesson, known, stored_logits.drawn(lesson, known, params.memory_batch, step)
        )
        term = params.alpha * squared
        term.backward()
        return term.item()

    def at_end() -> MethodState:
        return MethodState("der", stored_logits.remember(lesson, known, params.memory, params.top).tensors())

    return StepCallbacks(on_gradient=on_gradient, at_end=at_end) if known else StepCallbacks(at_end=at_end)

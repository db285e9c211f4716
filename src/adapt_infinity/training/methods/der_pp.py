"""DER++: as DER, and the remembered samples' answers are trained on too (Buzzega et al. 2020, arXiv:2004.07211, eq. 6).

    + α mean (z − z_kept)² + β cross-entropy

over two draws of remembered samples, each read again with every step.
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
    """methods.der_pp."""

    SECTION: ClassVar[str] = "methods.der_pp"

    alpha: NonNegativeFloat = 0.1  # weight of the distance to the stored logits
    beta: NonNegativeFloat = 0.5  # weight of the cross-entropy on the stored samples
    memory: PositiveInt = 400  # samples whose logits are kept, of all rounds together
    memory_batch: PositiveInt = 16  # of them, read again with every step, for each of the two terms
    top: PositiveInt = 32  # logits kept at an answer token, the largest

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(alpha=0.0, beta=0.0, memory=8, memory_batch=2, top=32)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """From the second round on: in the first there is nothing to remember."""
    known = stored_logits.recalled(state)

    def on_gradient(step: Step) -> float:
        assert known is not None
        squared, _ = stored_logits.distance(
            lesson, known, stored_logits.drawn(lesson, known, params.memory_batch, step, 0)
        )
        _, loss = stored_logits.distance(
            lesson, known, stored_logits.drawn(lesson, known, params.memory_batch, step, 1)
        )
        term = params.alpha * squared + params.beta * loss
        term.backward()
        return term.item()

    def at_end() -> MethodState:
        return MethodState("der_pp", stored_logits.remember(lesson, known, params.memory, params.top).tensors())

    return StepCallbacks(on_gradient=on_gradient, at_end=at_end) if known else StepCallbacks(at_end=at_end)

"""DER++: as DER, and the remembered samples' answers are trained on too (Buzzega et al. 2020, arXiv:2004.07211, eq. 6).

    + α mean (z − z_kept)² + β cross-entropy

over two draws of remembered samples, each read again with every step.
"""

from dataclasses import dataclass

from adapt_infinity.training import stored_logits
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.schedule import Step


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.der_pp."""

    alpha: float
    beta: float
    memory: int  # samples whose logits are kept, of all rounds together
    memory_batch: int  # of them, read again with every step, for each of the two terms
    top: int  # logits kept at an answer token, the largest

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if getattr(self, name) < 0:
                raise ValueError(f"methods.der_pp.{name} must be at least 0, got {getattr(self, name)}")
        for name in ("memory", "memory_batch", "top"):
            if getattr(self, name) < 1:
                raise ValueError(f"methods.der_pp.{name} must be at least 1, got {getattr(self, name)}")


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

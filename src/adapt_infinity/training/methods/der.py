"""DER: dark experience replay (Buzzega et al. 2020, arXiv:2004.07211). With every step some remembered samples are read
again, and

    + α mean (z − z_kept)²

keeps the logits z at their answer tokens where they were when the samples had just been learned.
"""

from dataclasses import dataclass

from adapt_infinity.training import recall
from adapt_infinity.training.lesson import Course, Lesson
from adapt_infinity.training.plan import Step
from adapt_infinity.training.state import MethodState


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.der."""

    alpha: float
    memory: int  # samples whose logits are kept, of all rounds together
    memory_batch: int  # of them, read again with every step
    top: int  # logits kept at an answer token, the largest

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"methods.der.alpha must be at least 0, got {self.alpha}")
        for name in ("memory", "memory_batch", "top"):
            if getattr(self, name) < 1:
                raise ValueError(f"methods.der.{name} must be at least 1, got {getattr(self, name)}")


PLAIN = Params(alpha=0.0, memory=8, memory_batch=2, top=32)


def start(lesson: Lesson, state: MethodState, params: Params) -> Course:
    """From the second round on: in the first there is nothing to remember."""
    known = recall.recalled(state)

    def on_gradient(step: Step) -> float:
        assert known is not None
        squared, _ = recall.distance(lesson, known, recall.drawn(lesson, known, params.memory_batch, step))
        term = params.alpha * squared
        term.backward()
        return term.item()

    def at_end() -> MethodState:
        return MethodState("der", recall.remember(lesson, known, params.memory, params.top).tensors())

    return Course(on_gradient=on_gradient, at_end=at_end) if known else Course(at_end=at_end)

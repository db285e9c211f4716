"""Fine-tuning: cross-entropy on what was chosen, and nothing against forgetting. What every method is compared with."""

from dataclasses import dataclass

from adapt_infinity.training.lesson import Course, Lesson
from adapt_infinity.training.state import MethodState


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.finetune: there is nothing to set."""


PLAIN = Params()


def start(lesson: Lesson, state: MethodState, params: Params) -> Course:
    """Nothing beside the loss."""
    return Course(at_end=lambda: MethodState("finetune"))

"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv:1812.00420). A step that would raise the loss
on a draw of remembered samples loses the part of it that does:

    if g·r < 0:   g ← g − (g·r / ‖r‖²) r,    r the gradient of the memory batch

The memory is what of earlier rounds is still in the pool, so it costs no bytes of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.parameters import NonNegativeInt, check
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.penalty import Vector
from adapt_infinity.training.schedule import Step


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.agem."""

    SECTION: ClassVar[str] = "methods.agem"

    memory_batch: NonNegativeInt = 32  # remembered samples drawn for a step; 0 = the method is off

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(memory_batch=0)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """From the second round on: in the first there is nothing to remember."""

    def on_gradient(step: Step) -> float:
        reference = lesson.gradient_of(lesson.remembered(params.memory_batch, step.number))
        return project(lesson.weights.gradient, reference)

    def at_end() -> MethodState:
        return MethodState("agem")

    if params.memory_batch == 0 or len(lesson.memory.ids) == 0:
        return StepCallbacks(at_end=at_end)
    return StepCallbacks(on_gradient=on_gradient, at_end=at_end)


def project(gradient: Vector, reference: Vector) -> float:
    """Take out of `gradient`, in place, what goes against `reference`; returns how much that was: −g·r, or 0."""
    against = float(gradient @ reference)
    if against >= 0:
        return 0.0
    gradient.sub_(reference, alpha=against / float(reference @ reference))
    return -against

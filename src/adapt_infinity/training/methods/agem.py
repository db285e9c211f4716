"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv:1812.00420).

If a step would raise the loss on a draw of samples of earlier rounds, the conflicting part of its gradient is removed:

    if g·r < 0:   g ← g − (g·r / ‖r‖²) r,    r the gradient on the memory batch

The memory is the samples of earlier rounds that are still in the pool, so it needs no storage of its own.
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

    memory_batch: NonNegativeInt = 32  # samples of earlier rounds drawn for each step; 0 = the method is off

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(memory_batch=0)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Project the gradient of every step; from the second round on, because the first has no earlier samples."""

    def on_gradient(step: Step) -> float:
        reference = context.gradient_of(context.draw_replay(params.memory_batch, step.number))
        return project(context.weights.gradient, reference)

    def at_end() -> MethodState:
        return MethodState("agem")

    if params.memory_batch == 0 or len(context.memory.ids) == 0:
        return StepCallbacks(at_end=at_end)
    return StepCallbacks(on_gradient=on_gradient, at_end=at_end)


def project(gradient: Vector, reference: Vector) -> float:
    """Remove from `gradient`, in place, its part against `reference` if g·r < 0; returns −g·r, or 0 otherwise."""
    product = float(gradient @ reference)
    if product >= 0:
        return 0.0
    gradient.sub_(reference, alpha=product / float(reference @ reference))
    return -product

"""MAS: memory aware synapses (Aljundi et al. 2018, arXiv:1711.09601). As EWC, with an importance that needs no label:
how much the squared length of the logits changes with a weight. Importances of rounds are added; the anchor is the
last weights.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.parameters import NonNegativeFloat, PositiveInt, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.penalty import Quadratic, carried, sensitivity

ADAPTER_POLICIES = (CONTINUE,)  # a new adapter has no place for old importances


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.mas."""

    SECTION: ClassVar[str] = "methods.mas"

    strength: NonNegativeFloat = 10000.0  # λ; importances of a round sum to 1 over all weights
    batches: PositiveInt = 25  # over which the importance is taken
    batch_size: PositiveInt = 8  # samples in each

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, batches=1, batch_size=1)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """The penalty of earlier rounds; from the second round on."""
    weights = lesson.weights

    def at_end() -> MethodState:
        importance = sensitivity(lesson, params.batches, params.batch_size)
        if state.tensors:
            importance = importance + carried(weights, state, "importance")[0]
        kept = {"importance": importance.cpu(), "anchor": weights.theta.to("cpu", copy=True)}
        return MethodState("mas", kept, {"layout": weights.layout, "round": lesson.round})

    if not state.tensors:
        return StepCallbacks(at_end=at_end)
    importance, anchor = carried(weights, state, "importance", "anchor")
    return StepCallbacks(on_gradient=Quadratic(weights, importance, anchor, params.strength).on_gradient, at_end=at_end)

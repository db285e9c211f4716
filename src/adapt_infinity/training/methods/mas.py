"""MAS: memory aware synapses (Aljundi et al. 2018, arXiv:1711.09601).

As EWC, with an importance that needs no labels: how much the squared length of the logits changes with a weight. The
importances of all rounds are added; the anchor is the weights at the end of the last round.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.parameters import NonNegativeFloat, PositiveInt, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.penalty import logit_sensitivity, penalise_changes, stored_vectors

ADAPTER_POLICIES = (CONTINUE,)  # importances of an old adapter do not fit the weights of a new one


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.mas."""

    SECTION: ClassVar[str] = "methods.mas"

    strength: NonNegativeFloat = 10000.0  # λ; the importances of a round sum to 1 over all weights
    batches: PositiveInt = 25  # batches for the importance
    batch_size: PositiveInt = 8  # samples per batch

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, batches=1, batch_size=1)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Penalise changes from earlier rounds, from the second round on; add this round's importance at the end."""
    weights = context.weights

    def at_end() -> MethodState:
        importance = logit_sensitivity(context, params.batches, params.batch_size)
        if state.tensors:
            importance = importance + stored_vectors(weights, state, "importance")[0]
        tensors = {"importance": importance.cpu(), "anchor": weights.theta.to("cpu", copy=True)}
        return MethodState("mas", tensors, {"layout": weights.layout, "round": context.round})

    return penalise_changes(weights, state, params.strength, at_end)

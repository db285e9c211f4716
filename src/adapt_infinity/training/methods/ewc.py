"""EWC: elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796).

Weights with a large Fisher information in earlier rounds are held near the values that they had then.

`separate` is the sum of one penalty per round, as published. A sum of quadratics is a quadratic, so it is stored as
one: importance Σ F_i and anchor Σ F_i θ*_i / Σ F_i (the remaining constant has no gradient). `online` is one penalty
about the weights of the last round, with F ← γ F + F_t (Schwarz et al. 2018, arXiv:1805.06370).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from adapt_infinity.parameters import NonNegativeFloat, PositiveInt, Share, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.penalty import Vector, fisher_information, penalise_changes, stored_vectors

ADAPTER_POLICIES = (CONTINUE,)  # importances of an old adapter do not fit the weights of a new one


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.ewc."""

    SECTION: ClassVar[str] = "methods.ewc"

    strength: NonNegativeFloat = 10000.0  # λ; the importances of a round sum to 1 over all weights
    variant: Literal["separate", "online"] = "online"  # one penalty per round, or one for all rounds
    decay: Share = 1.0  # γ of online
    batches: PositiveInt = 25  # batches for the Fisher information
    batch_size: PositiveInt = 8  # samples per batch

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, variant="online", decay=1.0, batches=1, batch_size=1)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Penalise changes from earlier rounds, from the second round on; store this round's importance at the end."""
    weights = context.weights

    def at_end() -> MethodState:
        importance, anchor = fisher_information(context, params.batches, params.batch_size), weights.theta.clone()
        if state.tensors:
            old_importance, old_anchor = stored_vectors(weights, state, "importance", "anchor")
            importance, anchor = combine(old_importance, old_anchor, importance, anchor, params)
        tensors = {"importance": importance.cpu(), "anchor": anchor.cpu()}
        return MethodState("ewc", tensors, {"layout": weights.layout, "round": context.round})

    return penalise_changes(weights, state, params.strength, at_end)


def combine(
    old_importance: Vector, old_anchor: Vector, importance: Vector, theta: Vector, params: Params
) -> tuple[Vector, Vector]:
    """Importance and anchor after another round, which has its own importance and ended at `theta`."""
    if params.variant == "online":
        return params.decay * old_importance + importance, theta
    total = old_importance + importance
    return total, torch.where(total > 0, (old_importance * old_anchor + importance * theta) / total, theta)

"""EWC: weights with a large Fisher information of earlier rounds hold still (Kirkpatrick et al. 2017,
arXiv:1612.00796).

`separate` is the sum of one penalty a round, as published; a sum of quadratics is a quadratic, so it is kept as one:
importance Σ F_i and anchor Σ F_i θ*_i / Σ F_i (the constant that is left over has no gradient). `online` keeps one
penalty about the last weights with F ← γ F + F_t (Schwarz et al. 2018, arXiv:1805.06370).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from adapt_infinity.parameters import NonNegativeFloat, PositiveInt, Share, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.penalty import Quadratic, Vector, carried, fisher

ADAPTER_POLICIES = (CONTINUE,)  # a new adapter has no place for old importances


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.ewc."""

    SECTION: ClassVar[str] = "methods.ewc"

    strength: NonNegativeFloat = 10000.0  # λ; importances of a round sum to 1 over all weights
    variant: Literal["separate", "online"] = "online"  # one penalty per round, or one for all rounds
    decay: Share = 1.0  # γ of online
    batches: PositiveInt = 25  # over which the Fisher information is taken
    batch_size: PositiveInt = 8  # samples in each

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, variant="online", decay=1.0, batches=1, batch_size=1)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """The penalty of earlier rounds; from the second round on."""
    weights = lesson.weights

    def at_end() -> MethodState:
        theta, found = weights.theta.clone(), fisher(lesson, params.batches, params.batch_size)
        if state.tensors:
            old, anchor = carried(weights, state, "importance", "anchor")
            importance, anchor = combine(old, anchor, found, theta, params)
        else:
            importance, anchor = found, theta
        kept = {"importance": importance.cpu(), "anchor": anchor.cpu()}
        return MethodState("ewc", kept, {"layout": weights.layout, "round": lesson.round})

    if not state.tensors:
        return StepCallbacks(at_end=at_end)
    importance, anchor = carried(weights, state, "importance", "anchor")
    return StepCallbacks(on_gradient=Quadratic(weights, importance, anchor, params.strength).on_gradient, at_end=at_end)


def combine(old: Vector, anchor: Vector, found: Vector, theta: Vector, params: Params) -> tuple[Vector, Vector]:
    """Importance and anchor after another round."""
    if params.variant == "online":
        return params.decay * old + found, theta
    total = old + found
    return total, torch.where(total > 0, (old * anchor + found * theta) / total, theta)

"""EMA: what a round deploys is the moving average of the weights it went through, θ̄ ← β θ̄ + (1 − β) θ, from the
weights that it began with (Large Continual Instruction Assistant, arXiv:2410.10868).

With `dynamic` β is found anew for every weight matrix and step from gradients, as there: a second-order expansion of
the loss about θ̄ balances staying and moving where

    β = ‖g‖ / ‖h ⊙ (θ − θ̄)‖,    h = (g − g_before) / (θ − θ_before)

in L1 norms over the matrix, h standing in for the curvature. We keep β within [`decay`, 1) and leave out the additive
constant of the published form, which weighs a gradient against a number without a unit.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt

from adapt_infinity.parameters import check
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.penalty import Vector
from adapt_infinity.training.schedule import Step

LARGEST = 0.9999  # a β of 1 would never move again


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.ema."""

    SECTION: ClassVar[str] = "methods.ema"

    decay: Annotated[float, Ge(0), Lt(1)] = 0.95  # β; the smallest with `dynamic`
    dynamic: bool = False  # whether β is found anew for every weight matrix and step

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(decay=0.0, dynamic=False)


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """The average begins where the round begins; the next round goes on from the average."""
    weights = lesson.weights
    moving = {"average": weights.theta.clone()}
    if params.dynamic:
        moving |= {"theta": weights.theta.clone(), "gradient": torch.zeros_like(weights.gradient)}
    average = moving["average"]

    def on_step(step: Step) -> float:
        keep: float | Vector = params.decay
        if params.dynamic:
            keep = balance(weights, moving, params.decay)
            moving["theta"].copy_(weights.theta)
            moving["gradient"].copy_(weights.gradient)
        average.copy_(keep * average + (1 - keep) * weights.theta)
        return float((weights.theta - average).norm())

    def at_end() -> MethodState:
        weights.theta.copy_(average)
        return MethodState("ema")

    return StepCallbacks(on_step=on_step, at_end=at_end, moving=moving)


def balance(weights: Weights, moving: dict[str, Vector], smallest: float) -> Vector:
    """β of every weight, the same within a matrix."""
    change = weights.theta - moving["theta"]
    bend = torch.where(change.abs() > 0, (weights.gradient - moving["gradient"]) / change, 0)
    away = weights.named(bend * (weights.theta - moving["average"]))
    slopes = weights.named(weights.gradient)
    found = torch.empty_like(weights.theta)
    for name, part in weights.named(found).items():
        part.fill_(float(slopes[name].abs().sum() / away[name].abs().sum().clamp_min(1e-12)))
    return found.clamp_(smallest, LARGEST)

"""EMA: the round deploys the moving average of its weights, θ̄ ← β θ̄ + (1 − β) θ (Large Continual Instruction
Assistant, arXiv:2410.10868).

The average starts at the weights with which the round begins. With `dynamic`, β is computed for every weight matrix and
step from gradients, as in the paper: a second-order expansion of the loss about θ̄ balances staying and moving at

    β = ‖g‖ / ‖h ⊙ (θ − θ̄)‖,    h = (g − g_before) / (θ − θ_before)

in L1 norms over the matrix, where h approximates the curvature. We keep β within [`decay`, 1), and leave out the
additive constant of the published form, which compares a gradient with a number without a unit.
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

LARGEST = 0.9999  # with β = 1 the average would never change again


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.ema."""

    SECTION: ClassVar[str] = "methods.ema"

    decay: Annotated[float, Ge(0), Lt(1)] = 0.95  # β; with `dynamic` its lower bound
    dynamic: bool = False  # whether β is computed for every weight matrix and step

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(decay=0.0, dynamic=False)


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Update the average after every step; at the end it becomes the weights, which the next round starts from."""
    weights = context.weights
    tensors = {"average": weights.theta.clone()}
    if params.dynamic:
        tensors |= {"theta": weights.theta.clone(), "gradient": torch.zeros_like(weights.gradient)}
    average = tensors["average"]

    def on_step(step: Step) -> float:
        decay: float | Vector = params.decay
        if params.dynamic:
            decay = dynamic_decay(weights, tensors, params.decay)
            tensors["theta"].copy_(weights.theta)
            tensors["gradient"].copy_(weights.gradient)
        average.copy_(decay * average + (1 - decay) * weights.theta)
        return float((weights.theta - average).norm())

    def at_end() -> MethodState:
        weights.theta.copy_(average)
        return MethodState("ema")

    return StepCallbacks(on_step=on_step, at_end=at_end, checkpointed=tensors)


def dynamic_decay(weights: Weights, tensors: dict[str, Vector], smallest: float) -> Vector:
    """β of every weight, the same for all weights of a matrix.

    `tensors` has the average, and θ (`theta`) and g (`gradient`) of the step before.
    """
    change = weights.theta - tensors["theta"]
    curvature = torch.where(change.abs() > 0, (weights.gradient - tensors["gradient"]) / change, 0)
    distances = weights.views(curvature * (weights.theta - tensors["average"]))
    gradients = weights.views(weights.gradient)
    decay = torch.empty_like(weights.theta)
    for name, part in weights.views(decay).items():
        part.fill_(float(gradients[name].abs().sum() / distances[name].abs().sum().clamp_min(1e-12)))
    return decay.clamp_(smallest, LARGEST)

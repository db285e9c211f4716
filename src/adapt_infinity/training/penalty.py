"""Quadratic penalties: weights that were important in earlier rounds are pulled back to their values of then.

    (λ/2) Σ_w I_w (θ_w − θ*_w)²,    gradient λ I ⊙ (θ − θ*)

The gradient is added in closed form, without autograd. The methods differ in the importance I.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.data.sample import Sample
from adapt_infinity.training.context import Labels, Logits, StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.schedule import Step

Vector = Float[Tensor, " weights"]


@dataclass(frozen=True)
class QuadraticPenalty:
    """The penalty with importance I, anchor θ* and strength λ."""

    weights: Weights
    importance: Vector
    anchor: Vector
    strength: float

    def on_gradient(self, step: Step) -> float:
        """Add the gradient of the penalty to `weights.gradient`; returns the value of the penalty."""
        change = self.weights.theta - self.anchor
        pull = self.importance * change
        self.weights.gradient.add_(pull, alpha=self.strength)
        return self.strength / 2 * float(pull @ change)


def fisher_information(context: TrainingContext, batches: int, batch_size: int) -> Vector:
    """The importance of EWC: E[g²] over batches of training samples at the present weights, normalised to sum 1."""
    return _mean(context, batches, batch_size, lambda samples: context.gradient_of(samples).square())


def logit_sensitivity(context: TrainingContext, batches: int, batch_size: int) -> Vector:
    """The importance of MAS (Aljundi et al. 2018): E|∂ mean‖logits‖² / ∂θ|, normalised to sum 1. It needs no labels."""
    return _mean(context, batches, batch_size, lambda samples: context.gradient_of(samples, _squared_logits).abs())


IMPORTANCES = {"ewc": fisher_information, "mas": logit_sensitivity}


def stored_vectors(weights: Weights, state: MethodState, *names: str) -> list[Tensor]:
    """Vectors of the state, on the device of the weights; `ValueError` when they belong to other weights."""
    if state.record["layout"] != weights.layout:
        raise ValueError(
            f"the state of {state.method} belongs to other weights: keep model.adapter_rank and adapter_targets as "
            "they were through a stream"
        )
    return [state.tensors[name].to(weights.theta.device) for name in names]


def penalise_changes(
    weights: Weights, state: MethodState, strength: float, at_end: Callable[[], MethodState]
) -> StepCallbacks:
    """The callbacks of a method whose term is the penalty with the importance and anchor in its state.

    In the first round the state is empty, and there is no penalty.
    """
    if not state.tensors:
        return StepCallbacks(at_end=at_end)
    importance, anchor = stored_vectors(weights, state, "importance", "anchor")
    penalty = QuadraticPenalty(weights, importance, anchor, strength)
    return StepCallbacks(on_gradient=penalty.on_gradient, at_end=at_end)


def _mean(
    context: TrainingContext, batches: int, batch_size: int, of_batch: Callable[[list[Sample]], Vector]
) -> Vector:
    samples = context.draw_samples(batches * batch_size)
    total = torch.zeros_like(context.weights.theta)
    for start in range(0, len(samples), batch_size):
        total += of_batch(samples[start : start + batch_size])
    return total / total.sum().clamp_min(torch.finfo(total.dtype).tiny)


def _squared_logits(logits: Logits, labels: Labels) -> Tensor:
    return (logits.square().sum(dim=-1) * (labels >= 0)).sum()

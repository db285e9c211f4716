"""Quadratic penalties: weights that mattered to earlier rounds are pulled back to where they were.

    (λ/2) Σ_w I_w (θ_w − θ*_w)²,    gradient λ I ⊙ (θ − θ*)

The gradient is added as it is written; nothing goes through autograd. What differs between methods is the importance I.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.training.context import Labels, Logits, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.schedule import Step

Vector = Float[Tensor, " weights"]


@dataclass(frozen=True)
class Quadratic:
    """One such penalty."""

    weights: Weights
    importance: Vector
    anchor: Vector
    strength: float

    def on_gradient(self, step: Step) -> float:
        """Add its gradient; returns its value."""
        moved = self.weights.theta - self.anchor
        pull = self.importance * moved
        self.weights.gradient.add_(pull, alpha=self.strength)
        return self.strength / 2 * float(pull @ moved)


def fisher(lesson: TrainingContext, batches: int, batch_size: int) -> Vector:
    """E[g²] over batches of what was trained on, at the weights as they are now, normalised to sum 1 (EWC)."""
    return _mean(lesson, batches, batch_size, lambda samples: lesson.gradient_of(samples).square())


def sensitivity(lesson: TrainingContext, batches: int, batch_size: int) -> Vector:
    """E|∂ mean‖logits‖² / ∂θ|, normalised to sum 1: no label is needed (MAS, Aljundi et al. 2018)."""
    return _mean(lesson, batches, batch_size, lambda samples: lesson.gradient_of(samples, _squared_logits).abs())


IMPORTANCES = {"ewc": fisher, "mas": sensitivity}


def carried(weights: Weights, state: MethodState, *names: str) -> list[Tensor]:
    """Vectors of the state on the device of the weights; `ValueError` when they are of other weights."""
    if state.record["layout"] != weights.layout:
        raise ValueError(
            f"the state of {state.method} belongs to other weights: keep model.adapter_rank and adapter_targets as "
            "they were through a stream"
        )
    return [state.tensors[name].to(weights.theta.device) for name in names]


def _mean(lesson: TrainingContext, batches: int, batch_size: int, of: Callable[[list], Vector]) -> Vector:
    samples = lesson.some(batches * batch_size)
    total = torch.zeros_like(lesson.weights.theta)
    for start in range(0, len(samples), batch_size):
        total += of(samples[start : start + batch_size])
    return total / total.sum().clamp_min(torch.finfo(total.dtype).tiny)


def _squared_logits(logits: Logits, labels: Labels) -> Tensor:
    return (logits.square().sum(dim=-1) * (labels >= 0)).sum()

"""O-LoRA: every round learns in a subspace of its own (Wang et al. 2023, arXiv:2310.14152). The round's A_t, B_t are
new, those of earlier rounds rest in the base weights, and

    + λ Σ_{i<t} ‖A_i A_tᵀ‖

keeps the new rows of A away from the old ones. `l1` is the sum of absolute products, as public implementations have it;
`frobenius` the sum of their squares, as the paper writes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.parameters import NonNegativeFloat, check
from adapt_infinity.training.adapter_policy import MERGE
from adapt_infinity.training.context import StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.schedule import Step

ADAPTER_POLICIES = (MERGE,)  # and with λ = 0 it is fine-tuning under that policy


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.o_lora."""

    SECTION: ClassVar[str] = "methods.o_lora"

    strength: NonNegativeFloat = 0.01  # λ
    norm: Literal["l1", "frobenius"] = "l1"

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, norm="l1")


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """What the earlier rounds learned is what the model carries at rest."""
    weights = lesson.weights
    now, gradients = weights.named(weights.theta), weights.named(weights.gradient)
    pairs = [(now[name], old, gradients[name]) for name, old in resting(now, lesson.vlm.frozen).items()]

    def on_gradient(step: Step) -> float:
        total = torch.zeros((), device=weights.theta.device)
        for new, old, gradient in pairs:
            value, slope = overlap(new, old, params.norm)
            gradient.add_(slope, alpha=params.strength)
            total += value
        return params.strength * total.item()

    return StepCallbacks(on_gradient=on_gradient, at_end=lambda: MethodState("o_lora"))


def resting(now: Mapping[str, Tensor], frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The name of each live A → the resting rows of A of the same map."""
    saved = {name: name.replace(".default.", ".") for name in now if ".lora_A." in name}
    return {name: frozen[place].to(now[name].device) for name, place in saved.items() if place in frozen}


def overlap(
    new: Float[Tensor, "rank inside"], old: Float[Tensor, "rest inside"], norm: str
) -> tuple[Tensor, Float[Tensor, "rank inside"]]:
    """‖old newᵀ‖ and its gradient by `new`."""
    products = new @ old.T
    if norm == "l1":
        return products.abs().sum(), products.sign() @ old
    return products.square().sum(), 2 * products @ old

"""O-LoRA: every round is trained in its own subspace (Wang et al. 2023, arXiv:2310.14152).

The A_t and B_t of a round are new, those of earlier rounds are frozen, and the term

    + λ Σ_{i<t} ‖A_i A_tᵀ‖

keeps the new rows of A orthogonal to the old ones. `l1` is the sum of absolute products, as in public implementations;
`frobenius` is the sum of their squares, as in the paper.
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

ADAPTER_POLICIES = (MERGE,)  # with λ = 0 the method is fine-tuning under this policy


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.o_lora."""

    SECTION: ClassVar[str] = "methods.o_lora"

    strength: NonNegativeFloat = 0.01  # λ
    norm: Literal["l1", "frobenius"] = "l1"

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(strength=0.0, norm="l1")


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add the term to every step. The frozen ranks are part of the adapter, so the state is empty."""
    weights = context.weights
    current, gradients = weights.views(weights.theta), weights.views(weights.gradient)
    matrices = [
        (current[name], frozen, gradients[name]) for name, frozen in frozen_a(current, context.vlm.frozen).items()
    ]

    def on_gradient(step: Step) -> float:
        total = torch.zeros((), device=weights.theta.device)
        for new, frozen, gradient in matrices:
            value, slope = overlap(new, frozen, params.norm)
            gradient.add_(slope, alpha=params.strength)
            total += value
        return params.strength * total.item()

    return StepCallbacks(on_gradient=on_gradient, at_end=lambda: MethodState("o_lora"))


def frozen_a(current: Mapping[str, Tensor], frozen: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The name of each trained matrix A → the frozen rows of A of the same module."""
    saved_names = {name: name.replace(".default.", ".") for name in current if ".lora_A." in name}
    return {name: frozen[saved].to(current[name].device) for name, saved in saved_names.items() if saved in frozen}


def overlap(
    new: Float[Tensor, "rank inputs"], frozen: Float[Tensor, "frozen_rank inputs"], norm: str
) -> tuple[Tensor, Float[Tensor, "rank inputs"]]:
    """‖frozen newᵀ‖ in the norm of `methods.o_lora.norm`, and its gradient by `new`."""
    products = new @ frozen.T
    if norm == "l1":
        return products.abs().sum(), products.sign() @ frozen
    return products.square().sum(), 2 * products @ frozen

"""MoE-LoRA: the adapter's rank is shared out over experts, and a token chooses among them by a softmax (CoIN, Chen et
al. 2024, arXiv:2403.08350). The loss is plain cross-entropy: what is different is the adapter, see
`model/adapters/moe_lora.py`. Routers are trained with it at the same rate.
"""

from dataclasses import dataclass
from typing import ClassVar

from adapt_infinity.model.adapters import moe_lora
from adapt_infinity.model.checkpoint import Vlm, apply_adapter_type
from adapt_infinity.parameters import PositiveInt, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.params import TrainingParams

ADAPTER_POLICIES = (CONTINUE,)  # what a router gates cannot be merged into the base weights


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.moe_lora."""

    SECTION: ClassVar[str] = "methods.moe_lora"

    experts: PositiveInt = 2  # of rank adapter_rank / experts each; 1 = plain LoRA

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(experts=1)


def shape(vlm: Vlm, memory: ReplayMemory, training: TrainingParams, params: Params) -> Vlm:
    """Cut a plain LoRA into experts; one that is cut already goes on as it is.

    `ValueError` when it is cut into another number, or has ranks that rest in the base.
    """
    if vlm.frozen:
        raise ValueError("training.method=moe_lora cannot gate ranks that merge_then_new has merged into the base")
    cut = vlm.adapter_type.get("experts", 1)
    if vlm.adapter_type and cut != params.experts:
        raise ValueError(f"methods.moe_lora.experts must stay {cut} through a stream, got {params.experts}")
    if vlm.adapter_type or params.experts == 1:  # a softmax over one expert is 1
        return vlm
    return apply_adapter_type(vlm, *moe_lora.split_into_experts(vlm.model, params.experts))


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Nothing beside the loss."""
    return StepCallbacks(at_end=lambda: MethodState("moe_lora"))

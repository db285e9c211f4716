"""MoE-LoRA: the adapter is a mixture of experts, and a router weights them for every token by a softmax (CoIN, Chen et
al. 2024, arXiv:2403.08350).

The experts share the rank of the LoRA. The loss is plain cross-entropy; only the adapter is different, see
model/adapters/moe_lora.py. The routers are trained with it, at the same learning rate.
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

ADAPTER_POLICIES = (CONTINUE,)  # gated ranks cannot be merged into the base weights


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.moe_lora."""

    SECTION: ClassVar[str] = "methods.moe_lora"

    experts: PositiveInt = 2  # of rank adapter_rank / experts each; 1 = plain LoRA

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(experts=1)


def prepare_adapter(vlm: Vlm, memory: ReplayMemory, training: TrainingParams, params: Params) -> Vlm:
    """Split a plain LoRA into experts; one that is split already is trained further.

    `ValueError` when it is split into another number of experts, or has ranks that are merged into the base weights.
    """
    if vlm.frozen:
        raise ValueError("training.method=moe_lora cannot gate ranks that merge_then_new has merged into the base")
    experts = vlm.adapter_type.get("experts", 1)
    if vlm.adapter_type and experts != params.experts:
        raise ValueError(f"methods.moe_lora.experts must stay {experts} through a stream, got {params.experts}")
    if vlm.adapter_type or params.experts == 1:  # a softmax over one expert is 1
        return vlm
    return apply_adapter_type(vlm, *moe_lora.split_into_experts(vlm.model, params.experts))


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add nothing to the training loop: the whole method is in the adapter."""
    return StepCallbacks(at_end=lambda: MethodState("moe_lora"))

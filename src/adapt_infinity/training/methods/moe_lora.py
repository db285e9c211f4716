"""MoE-LoRA: the adapter's rank is shared out over experts, and a token chooses among them by a softmax (CoIN, Chen et
al. 2024, arXiv:2403.08350). The loss is plain cross-entropy: what is different is the adapter, see
`adapters/moe_lora.py`. Routers are trained with it at the same rate.
"""

from dataclasses import dataclass

from adapt_infinity.adapters import moe_lora
from adapt_infinity.model import Vlm, reform
from adapt_infinity.training.chaining import CONTINUE
from adapt_infinity.training.lesson import Course, Lesson, Memory
from adapt_infinity.training.params import TrainingParams
from adapt_infinity.training.state import MethodState

CHAINING = (CONTINUE,)  # what a router gates cannot be merged into the base weights


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.moe_lora."""

    experts: int  # each of the adapter's rank / experts; 1 = plain LoRA

    def __post_init__(self) -> None:
        if self.experts < 1:
            raise ValueError(f"methods.moe_lora.experts must be at least 1, got {self.experts}")


PLAIN = Params(experts=1)


def shape(vlm: Vlm, memory: Memory, training: TrainingParams, params: Params) -> Vlm:
    """Cut a plain LoRA into experts; one that is cut already goes on as it is.

    `ValueError` when it is cut into another number, or has ranks that rest in the base.
    """
    if vlm.frozen:
        raise ValueError("training.method=moe_lora cannot gate ranks that merge_then_new has merged into the base")
    cut = vlm.form.get("experts", 1)
    if vlm.form and cut != params.experts:
        raise ValueError(f"methods.moe_lora.experts must stay {cut} through a stream, got {params.experts}")
    if vlm.form or params.experts == 1:  # a softmax over one expert is 1
        return vlm
    return reform(vlm, *moe_lora.begin(vlm.model, params.experts))


def start(lesson: Lesson, state: MethodState, params: Params) -> Course:
    """Nothing beside the loss."""
    return Course(at_end=lambda: MethodState("moe_lora"))

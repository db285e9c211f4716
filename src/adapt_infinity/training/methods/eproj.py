"""EProj: a projector a task, and keys by which an item finds its own (He et al. 2023, arXiv:2311.16206).

A round's task is the dataset that arrives. It gets an expert, a copy of the pre-trained projector, which alone is
trained, on all that the round trains on. Samples without a picture do not come through it and teach it nothing: a
dataset of text alone gets a copy that stays as it was, and keys. A dataset that comes again goes on with the expert
that it has. Then two keys are pulled towards the task's samples, by their picture and by their instruction, both as
the pre-trained projector and the embeddings leave them (`model/modality_embeddings.py`), so that rounds can be
compared. The paper trains its keys beside the projector, on vectors of frozen encoders; here they are trained after
it: the gradient of neither reaches the other.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from adapt_infinity.model.adapters import eproj
from adapt_infinity.model.checkpoint import Vlm, apply_adapter_type
from adapt_infinity.model.modality_embeddings import embed_modalities
from adapt_infinity.model.prompts import encode
from adapt_infinity.parameters import NonNegativeInt, PositiveFloat, check
from adapt_infinity.training.adapter_policy import CONTINUE
from adapt_infinity.training.context import ReplayMemory, StepCallbacks, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.params import TrainingParams

ADAPTER_POLICIES = (CONTINUE,)  # the LoRA rests: there is nothing to merge


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.eproj."""

    SECTION: ClassVar[str] = "methods.eproj"

    key_steps: NonNegativeInt = 20  # in which a key moves from its samples' mean; 0 = it stays there
    key_rate: PositiveFloat = 0.5  # learning rate of the keys

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(key_steps=0, key_rate=1.0)  # fine-tuning of the projector alone; keys have no part in training


def shape(vlm: Vlm, memory: ReplayMemory, training: TrainingParams, params: Params) -> Vlm:
    """The projector of the task that arrives, in the projector's place; `ValueError` on a base in half precision."""
    adapter_type = vlm.adapter_type or {"kind": "eproj", "projector": training.projector, "tasks": []}
    if adapter_type["projector"] != training.projector:
        raise ValueError(
            f"training.projector must stay {adapter_type['projector']!r} through a stream, got {training.projector!r}"
        )
    if any(weight.dtype != torch.float32 for weight in eproj.trainable_weights(vlm.model, adapter_type).values()):
        raise ValueError("training.method=eproj trains the projector's own weights and needs model.dtype float32")
    tasks = adapter_type["tasks"]
    if memory.arrived not in tasks:
        adapter_type = {**adapter_type, "tasks": [*tasks, memory.arrived]}
        projector = eproj.projector_weights(vlm.model, adapter_type, len(tasks))
        vlm = apply_adapter_type(vlm, adapter_type, {**vlm.extra_tensors, **projector})
    eproj.use_projector(vlm, vlm.adapter_type["tasks"].index(memory.arrived))
    return vlm


def start(lesson: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Nothing beside the loss; the expert and its keys are the adapter's, not the method's."""
    vlm, task = lesson.vlm, lesson.vlm.adapter_type["tasks"].index(lesson.memory.arrived)
    own = [sample for sample in lesson.samples if sample.source == lesson.memory.arrived]
    if not own:
        raise ValueError(
            f"the subset has no sample of {lesson.memory.arrived}, the dataset that arrives, so eproj cannot learn "
            "its keys"
        )

    def at_end() -> MethodState:
        extras = eproj.projector_weights(vlm.model, vlm.adapter_type, task)
        eproj.use_projector(vlm, None)
        parts = embed_modalities(
            vlm, [encode(vlm, sample, lesson.pictures) for sample in own], lesson.params.token_budget
        )
        for part in eproj.KEY_MODALITIES:
            rows: Tensor = getattr(parts, part)
            before = vlm.extra_tensors.get(f"key.{task}.{part}", torch.zeros(rows.shape[1])).cpu()
            extras[f"key.{task}.{part}"] = eproj.learn_key(before, rows, params.key_steps, params.key_rate)
        vlm.extra_tensors.update(extras)
        eproj.use_projector(vlm, task)
        return MethodState("eproj")

    return StepCallbacks(at_end=at_end)

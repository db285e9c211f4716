"""EProj: one projector per task, and keys that find the task of a test item (He et al. 2023, arXiv:2311.16206).

The task of a round is the dataset that arrives. It gets its own projector, a copy of the pre-trained one, and only this
projector is trained, on all samples that the round trains on. Samples without a picture have no gradient there: a
dataset of text alone keeps an unchanged copy, and gets keys. If a dataset arrives again, its projector is trained
further. After training, two keys are pulled towards the task's samples, one by their pictures and one by their
instructions. Both are embedded with the pre-trained projector (model/modality_embeddings.py), so that rounds can be
compared. The paper trains the keys together with the projector, on vectors of frozen encoders; here they are trained
after it. In both cases no gradient goes from one to the other.
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

ADAPTER_POLICIES = (CONTINUE,)  # the LoRA is not trained, so there is nothing to merge


@dataclass(frozen=True, kw_only=True)
class Params:
    """methods.eproj."""

    SECTION: ClassVar[str] = "methods.eproj"

    key_steps: NonNegativeInt = 20  # steps of a key away from the mean of its samples; 0 = it stays there
    key_rate: PositiveFloat = 0.5  # learning rate of the keys

    def __post_init__(self) -> None:
        check(self)


PLAIN = Params(key_steps=0, key_rate=1.0)  # fine-tuning of the projector alone; keys do not take part in training


def prepare_adapter(vlm: Vlm, memory: ReplayMemory, training: TrainingParams, params: Params) -> Vlm:
    """The model with the projector of the arriving task in place.

    `ValueError` when `training.projector` has changed, or when the projector's weights are not float32.
    """
    adapter_type = vlm.adapter_type or {"kind": "eproj", "projector": training.projector, "tasks": []}
    if adapter_type["projector"] != training.projector:
        raise ValueError(
            f"training.projector must stay {adapter_type['projector']!r} through a stream, got {training.projector!r}"
        )
    if any(weight.dtype != torch.float32 for weight in eproj.trainable_weights(vlm.model, adapter_type).values()):
        raise ValueError("training.method=eproj trains the projector's own weights and needs model.dtype float32")
    tasks = adapter_type["tasks"]
    if memory.arriving_source not in tasks:
        adapter_type = {**adapter_type, "tasks": [*tasks, memory.arriving_source]}
        projector = eproj.projector_weights(vlm.model, adapter_type, len(tasks))
        vlm = apply_adapter_type(vlm, adapter_type, {**vlm.extra_tensors, **projector})
    eproj.use_projector(vlm, vlm.adapter_type["tasks"].index(memory.arriving_source))
    return vlm


def start(context: TrainingContext, state: MethodState, params: Params) -> StepCallbacks:
    """Add no term; train the keys at the end. Projectors and keys are part of the adapter, so the state is empty.

    `ValueError` when the subset has no sample of the arriving dataset.
    """
    source = context.memory.arriving_source
    vlm, task = context.vlm, context.vlm.adapter_type["tasks"].index(source)
    of_task = [sample for sample in context.samples if sample.source == source]
    if not of_task:
        raise ValueError(
            f"the subset has no sample of {source}, the dataset that arrives, so eproj cannot learn its keys"
        )

    def at_end() -> MethodState:
        tensors = eproj.projector_weights(vlm.model, vlm.adapter_type, task)
        eproj.use_projector(vlm, None)
        rows = [encode(vlm, sample, context.pictures) for sample in of_task]
        embeddings = embed_modalities(vlm, rows, context.params.token_budget)
        for modality in eproj.KEY_MODALITIES:
            vectors: Tensor = getattr(embeddings, modality)
            name = f"key.{task}.{modality}"
            before = vlm.extra_tensors.get(name, torch.zeros(vectors.shape[1])).cpu()
            tensors[name] = eproj.learn_key(before, vectors, params.key_steps, params.key_rate)
        vlm.extra_tensors.update(tensors)
        eproj.use_projector(vlm, task)
        return MethodState("eproj")

    return StepCallbacks(at_end=at_end)

"""EProj: one projector and two keys per task (expandable projectors, He et al. 2023, arXiv:2311.16206).

The LoRA beside them is not trained. A sample is read with the projector of the task whose image key and instruction
key have the highest summed cosine to the sample's vectors (docs/method.md, section 10).

Extra tensors: projector.<task>.<weight>, key.<task>.image, key.<task>.instruction. A task is its index in
adapter_type["tasks"].
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from adapt_infinity.model.checkpoint import Vlm

ROUTES_SAMPLES = True
KEY_MODALITIES = ("image", "instruction")  # a task has one key for each


def attach(
    model: Any, adapter_type: Mapping[str, Any], extra_tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The extra tensors on the model's device, and a copy of the pre-trained projector, which stays in place until
    `use_projector` replaces it.
    """
    weights = trainable_weights(model, adapter_type)
    device = next(iter(weights.values())).device
    originals = {_base_name(name): weight.detach().clone() for name, weight in weights.items()}
    return {name: tensor.to(device) for name, tensor in extra_tensors.items()}, originals


def trainable_weights(model: Any, adapter_type: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """The projector's own weights, without those of a LoRA on it. `ValueError` when no name matches."""
    found = {
        name: weight
        for name, weight in model.named_parameters()
        if "lora_" not in name and re.search(adapter_type["projector"], name)
    }
    if not found:
        raise ValueError(
            f"training.projector {adapter_type['projector']!r} matches no weight of the model, so eproj has nothing to "
            "train: give a regular expression that matches the projector's names"
        )
    return found


def use_projector(vlm: Vlm, task: int | None) -> None:
    """Copy the projector of a task into the model, or (None) the pre-trained projector."""
    for name, weight in trainable_weights(vlm.model, vlm.adapter_type).items():
        base_name = _base_name(name)
        source = vlm.original_weights[base_name] if task is None else vlm.extra_tensors[f"projector.{task}.{base_name}"]
        weight.data.copy_(source)


def projector_weights(model: Any, adapter_type: Mapping[str, Any], task: int) -> dict[str, Tensor]:
    """A copy of the projector that is in place, under the names of the extra tensors of `task`."""
    weights = trainable_weights(model, adapter_type)
    return {f"projector.{task}.{_base_name(name)}": weight.detach().clone() for name, weight in weights.items()}


def learn_key(
    start: Float[Tensor, " width"], rows: Float[Tensor, "samples width"], steps: int, rate: float
) -> Float[Tensor, " width"]:
    """The unit key after `steps` of gradient ascent on its mean cosine with `rows`.

    Rows of zeros (samples that lack the modality) have no influence. Where `start` is zero, the ascent starts at the
    mean of the unit rows. Returns `start` when all rows are zero.
    """
    present = normalize(rows[rows.abs().sum(dim=1) > 0], dim=1)
    if not len(present):
        return start
    mean = present.mean(dim=0)
    key = normalize(start if start.any() else mean, dim=0)
    for _ in range(steps):
        key = normalize(key + rate * (mean - (mean @ key) * key), dim=0)
    return key


def route(
    adapter_type: Mapping[str, Any],
    extra_tensors: Mapping[str, Tensor],
    image: Float[Tensor, "items width"],
    instruction: Float[Tensor, "items width"],
) -> Int[Tensor, " items"]:
    """For each item, the index of the task whose projector reads it.

    An item without an image has a row of zeros there: its cosine to every image key is 0, so its instruction decides.
    """
    total = torch.zeros(len(image), len(adapter_type["tasks"]))
    for modality, rows in zip(KEY_MODALITIES, (image, instruction), strict=True):
        keys = torch.stack([extra_tensors[f"key.{task}.{modality}"] for task in range(total.shape[1])]).cpu()
        total += cosine_similarity(rows[:, None], keys[None], dim=-1)
    return total.argmax(dim=1)


def _base_name(name: str) -> str:
    """A weight's name in the base model, without what PEFT has put around it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")

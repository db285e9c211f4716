"""Expandable projectors (EProj, He et al. 2023, arXiv:2311.16206): a projector and two keys a task, beside a LoRA that
rests. An item is read by the learned expert whose image and instruction keys have the highest summed cosine to it.

Extras: expert.<task>.<weight>, key.<task>.image, key.<task>.instruction; tasks are numbered as the form lists them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

PARTS = ("image", "instruction")


def attach(
    model: Any, form: Mapping[str, Any], extras: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The pre-trained projector stays in place until `use` puts an expert there."""
    weights = trained(model, form)
    device = next(iter(weights.values())).device
    own = {_plain(name): weight.detach().clone() for name, weight in weights.items()}
    return {name: tensor.to(device) for name, tensor in extras.items()}, own


def trained(model: Any, form: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """The projector's own weights, not those of a LoRA on it; `ValueError` when there are none."""
    found = {
        name: weight
        for name, weight in model.named_parameters()
        if "lora_" not in name and re.search(form["projector"], name)
    }
    if not found:
        raise ValueError(f"training.projector {form['projector']!r} finds no weights, so eproj has nothing to train")
    return found


def use(
    model: Any, form: Mapping[str, Any], extras: Mapping[str, Tensor], own: Mapping[str, Tensor], task: int | None
) -> None:
    """Put the expert of a task in the projector's place, or the pre-trained projector (None) back."""
    for name, weight in trained(model, form).items():
        kept = own[_plain(name)] if task is None else extras[f"expert.{task}.{_plain(name)}"]
        weight.data.copy_(kept)


def expert(model: Any, form: Mapping[str, Any], task: int) -> dict[str, Tensor]:
    """What is in the projector's place now, as the extras of a task."""
    return {f"expert.{task}.{_plain(name)}": weight.detach().clone() for name, weight in trained(model, form).items()}


def learn_key(
    start: Float[Tensor, " width"], rows: Float[Tensor, "samples width"], steps: int, rate: float
) -> Float[Tensor, " width"]:
    """A key pulled towards its task's rows: gradient ascent on the mean cosine, on the unit sphere.

    Rows of zeros (samples without that part) do not pull; a start of zeros begins at the mean of the unit rows.
    """
    present = normalize(rows[rows.abs().sum(dim=1) > 0], dim=1)
    if not len(present):
        return start
    pull = present.mean(dim=0)
    key = normalize(start if start.any() else pull, dim=0)
    for _ in range(steps):
        key = normalize(key + rate * (pull - (pull @ key) * key), dim=0)
    return key


def route(
    form: Mapping[str, Any],
    extras: Mapping[str, Tensor],
    image: Float[Tensor, "items width"],
    instruction: Float[Tensor, "items width"],
) -> Int[Tensor, " items"]:
    """The number of the task whose expert reads each item; an item without a picture has the cosine 0 to every image
    key, and goes by its instruction.
    """
    total = torch.zeros(len(image), len(form["tasks"]))
    for part, rows in zip(PARTS, (image, instruction), strict=True):
        keys = torch.stack([extras[f"key.{task}.{part}"] for task in range(len(form["tasks"]))]).cpu()
        total += cosine_similarity(rows[:, None], keys[None], dim=-1)
    return total.argmax(dim=1)


def _plain(name: str) -> str:
    """As the base model calls it, whatever PEFT has put around it."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")

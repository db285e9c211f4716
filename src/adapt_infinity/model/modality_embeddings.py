"""Modality embeddings: one vector each for a sample's images, its instruction and its answer.

Tasks are compared by these vectors (`benchmarks/task_similarity.py`, `training/methods/tir.py`), and samples are routed
by them (`adapters/eproj.py`).

They are taken at the input of the first decoder layer: images as the projector's output, words as their embeddings,
each averaged over the positions of the modality. No decoder layer runs and the adapter is switched off, so vectors of
different rounds can be compared, and a sample costs little more than its vision tower. He et al. (arXiv:2311.16206)
use frozen encoders beside the model; here the model's own are used, so that no other model has to be loaded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from peft import PeftModel
from torch import Tensor

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.model.checkpoint import Batch, Vlm
from adapt_infinity.model.prompts import Encoded, batches, collate, pad_token

MODALITIES = ("image", "instruction", "answer")


@dataclass(frozen=True)
class ModalityEmbeddings:
    """One row per sample, fp32, on the CPU. A sample that lacks a modality has a row of zeros there."""

    image: Float[Tensor, "samples width"]
    instruction: Float[Tensor, "samples width"]
    answer: Float[Tensor, "samples width"]

    def joined(self) -> Float[Tensor, "samples width3"]:
        """The three vectors side by side, each scaled to unit length unless it is zero; then the whole row, too."""
        unit = torch.nn.functional.normalize
        return unit(torch.cat([unit(getattr(self, name)) for name in MODALITIES], dim=1))

    def means(self) -> dict[str, Float[Tensor, " width"]]:
        """Modality → mean over the samples that have it; zeros when no sample has it."""
        return {name: _mean_of_nonzero_rows(getattr(self, name)) for name in MODALITIES}


def embed_modalities(vlm: Vlm, rows: Sequence[Encoded], token_budget: int) -> ModalityEmbeddings:
    """The three vectors of each sample, in the order of `rows`, in batches of at most `token_budget` padded tokens.

    `ValueError` for a model whose config does not say which token stands for an image.
    """
    width = vlm.base.get_input_embeddings().weight.shape[1]
    found = {name: torch.zeros(len(rows), width) for name in MODALITIES}
    with torch.no_grad(), _adapter_switched_off(vlm):
        for members in batches([len(row) for row in rows], token_budget):
            batch = collate([rows[index] for index in members], pad_token(vlm))
            hidden = _first_layer_input(vlm, batch)
            for name, mask in _masks(vlm, batch).items():
                found[name][members] = _masked_mean(hidden, mask.to(hidden.device)).cpu()
    return ModalityEmbeddings(**found)


def _masks(vlm: Vlm, batch: Batch) -> dict[str, Bool[Tensor, "batch time"]]:
    """Modality → the positions that belong to it."""
    token = getattr(vlm.base.config, "image_token_id", None)
    if token is None and batch.extras:
        raise ValueError("the checkpoint's config has no image_token_id, so the positions of its images are not known")
    image = batch.input_ids == (-1 if token is None else token)
    answer = batch.labels != IGNORED_LABEL
    return {"image": image, "answer": answer, "instruction": batch.attention_mask.bool() & ~image & ~answer}


def _masked_mean(
    hidden: Float[Tensor, "batch time width"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch width"]:
    count = mask.sum(dim=1, keepdim=True).clamp_min(1)
    return (hidden.float() * mask.unsqueeze(-1)).sum(dim=1) / count


def _mean_of_nonzero_rows(rows: Float[Tensor, "samples width"]) -> Float[Tensor, " width"]:
    present = rows.abs().sum(dim=1) > 0
    return rows[present].mean(dim=0) if present.any() else torch.zeros(rows.shape[1])


@contextmanager
def _adapter_switched_off(vlm: Vlm) -> Iterator[None]:
    """While open, the base model computes without its adapter. Restores what PEFT does to `requires_grad`."""
    if not isinstance(vlm.model, PeftModel):
        yield
        return
    trainable = [(weight, weight.requires_grad) for weight in vlm.model.parameters()]
    try:
        with vlm.model.disable_adapter():
            yield
    finally:
        for weight, flag in trainable:
            weight.requires_grad_(flag)


class _ForwardStoppedError(Exception):
    """Raised on purpose to end a forward pass at the first decoder layer."""


@contextmanager
def _stopped_at_first_layer(vlm: Vlm) -> Iterator[list[Tensor]]:
    """While open, a forward pass ends before the first decoder layer; the list receives that layer's input."""
    inputs: list[Tensor] = []

    def stop(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append(args[0] if args else kwargs["hidden_states"])
        raise _ForwardStoppedError

    handle = vlm.layers[0].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield inputs
    except _ForwardStoppedError:
        pass
    finally:
        handle.remove()


def _first_layer_input(vlm: Vlm, batch: Batch) -> Float[Tensor, "batch time width"]:
    trunk = getattr(vlm.base, vlm.base.base_model_prefix)
    with _stopped_at_first_layer(vlm) as inputs:
        trunk(**batch.inputs(vlm.device), use_cache=False)
    return inputs[0]

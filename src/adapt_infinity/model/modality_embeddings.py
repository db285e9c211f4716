"""What a sample shows, asks and answers, each as one vector: what tasks are compared and routed by.

They are read where the language model reads them, before its first layer: pictures as the projector gives them, words
as their embeddings; the mean over a part's positions. No decoder layer runs and no adapter takes part, so vectors of
different rounds can be compared, and a sample costs little more than its vision tower. He et al. (arXiv:2311.16206)
take theirs from frozen encoders beside the model; ours are inside it, so that nothing has to be loaded.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from peft import PeftModel
from torch import Tensor

from adapt_infinity.model.checkpoint import IGNORED, Batch, Vlm
from adapt_infinity.model.prompts import Encoded, batches, collate, pad_token

PARTS = ("image", "instruction", "answer")


@dataclass(frozen=True)
class ModalityEmbeddings:
    """A row a sample, fp32, on the CPU; a sample without pictures (or without an answer) has a row of zeros there."""

    image: Float[Tensor, "samples width"]
    instruction: Float[Tensor, "samples width"]
    answer: Float[Tensor, "samples width"]

    def joined(self) -> Float[Tensor, "samples width3"]:
        """All three side by side, each of unit length where the sample has it, the whole of unit length."""
        unit = torch.nn.functional.normalize
        return unit(torch.cat([unit(getattr(self, name)) for name in PARTS], dim=1))

    def means(self) -> dict[str, Float[Tensor, " width"]]:
        """Of each part, over the samples that have it; zeros when none has."""
        return {name: _mean_of_present(getattr(self, name)) for name in PARTS}


def embed_modalities(vlm: Vlm, rows: Sequence[Encoded], token_budget: int) -> ModalityEmbeddings:
    """The three vectors of each sample, in order. `ValueError` for a model that does not name its image token."""
    width = vlm.base.get_input_embeddings().weight.shape[1]
    found = {name: torch.zeros(len(rows), width) for name in PARTS}
    plain = vlm.model.disable_adapter() if isinstance(vlm.model, PeftModel) else nullcontext()
    with torch.no_grad(), plain:
        for places in batches([len(row) for row in rows], token_budget):
            batch = collate([rows[place] for place in places], pad_token(vlm))
            hidden = _before_layers(vlm, batch)
            for name, where in _positions(vlm, batch).items():
                found[name][places] = _mean(hidden, where.to(hidden.device)).cpu()
    return ModalityEmbeddings(**found)


def _positions(vlm: Vlm, batch: Batch) -> dict[str, Bool[Tensor, "batch time"]]:
    token = getattr(vlm.base.config, "image_token_id", None)
    if token is None and batch.extras:
        raise ValueError("the checkpoint's config names no image_token_id, so its pictures' places are not known")
    image = batch.input_ids == (-1 if token is None else token)
    answer = batch.labels != IGNORED
    return {"image": image, "answer": answer, "instruction": batch.attention_mask.bool() & ~image & ~answer}


def _mean(hidden: Float[Tensor, "batch time width"], where: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch width"]:
    count = where.sum(dim=1, keepdim=True).clamp_min(1)
    return (hidden.float() * where.unsqueeze(-1)).sum(dim=1) / count


def _mean_of_present(rows: Float[Tensor, "samples width"]) -> Float[Tensor, " width"]:
    present = rows.abs().sum(dim=1) > 0
    return rows[present].mean(dim=0) if present.any() else torch.zeros(rows.shape[1])


class _EnoughError(Exception):
    """The first layer's input has been seen."""


@contextmanager
def _seen(vlm: Vlm) -> Iterator[list[Tensor]]:
    """What goes into the first decoder layer; the forward pass ends there."""
    seen: list[Tensor] = []

    def look(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])
        raise _EnoughError

    handle = vlm.layers[0].register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    except _EnoughError:
        pass
    finally:
        handle.remove()


def _before_layers(vlm: Vlm, batch: Batch) -> Float[Tensor, "batch time width"]:
    trunk = getattr(vlm.base, vlm.base.base_model_prefix)
    with _seen(vlm) as seen:
        trunk(**batch.inputs(vlm.device), use_cache=False)
    return seen[0]

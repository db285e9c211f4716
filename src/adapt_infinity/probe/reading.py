"""What the model says of a batch of samples: features, scores and embeddings, from one forward and half a backward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity import experts
from adapt_infinity.experts import Outputs
from adapt_infinity.model import Batch, Vlm, answer_logits
from adapt_infinity.probe.capture import capturing
from adapt_infinity.probe.sketch import sketch
from adapt_infinity.prompts import Encoded, batches, collate, pad_token


@dataclass(frozen=True)
class Reading:
    """A batch as the model sees it, fp32, on the CPU, not yet normalised."""

    gradients: Float[Tensor, "batch dim"]
    embeddings: Float[Tensor, "batch width"]
    scores: dict[str, Float[Tensor, " batch"]]


def read_batch(
    vlm: Vlm, batch: Batch, nll_bare: Float[np.ndarray, " batch"], dim: int, layer: int, embedding_layer: int
) -> Reading:
    """One forward and half a backward pass: everything that the selector needs to know of these samples.

    `nll_bare` is each sample's loss without its pictures, NaN for a sample that has none.
    """
    total = torch.zeros(len(batch.input_ids), dim, device=vlm.device)
    squares = torch.zeros(len(batch.input_ids), device=vlm.device)

    def visit(module: str, gradient: Float[Tensor, "batch out inside"]) -> None:
        squares.add_(gradient.square().sum(dim=(1, 2)))
        total.add_(sketch(gradient, f"{layer}.{module}", dim))

    with torch.enable_grad(), capturing(vlm, layer, embedding_layer, visit) as capture:
        logits, labels = answer_logits(vlm, batch)
        nll = experts.answer_nll(logits, labels)
        torch.autograd.grad(nll.sum(), capture.leaf)
    assert capture.hidden is not None
    bare = torch.from_numpy(nll_bare).to(nll)
    outputs = Outputs(logits.detach(), labels, squares.sqrt(), bare.where(~bare.isnan(), nll.detach()))
    scores = {name: experts.load(name)(outputs).cpu() for name in experts.names()}
    scores["answer_tokens"] = (labels != experts.IGNORED).sum(dim=1).float().cpu()
    text = _text_positions(vlm, batch).to(vlm.device)
    embeddings = (capture.hidden.float() * text.unsqueeze(-1)).sum(dim=1) / text.sum(dim=1, keepdim=True)
    return Reading(total.cpu(), embeddings.cpu(), scores)


def nll_without_image(vlm: Vlm, bare: Sequence[Encoded | None], token_budget: int) -> Float[np.ndarray, " rows"]:
    """Loss of the same answers when the pictures are left out; NaN where there was none to leave out."""
    losses = np.full(len(bare), np.nan)
    present = [place for place, row in enumerate(bare) if row is not None]
    rows = [row for row in bare if row is not None]
    with torch.no_grad():
        for places in batches([len(row) for row in rows], token_budget):
            logits, labels = answer_logits(vlm, collate([rows[place] for place in places], pad_token(vlm)))
            losses[[present[place] for place in places]] = experts.answer_nll(logits, labels).cpu().numpy()
    return losses


def _text_positions(vlm: Vlm, batch: Batch) -> Tensor:
    """True where a token is words: neither padding nor a picture's place."""
    image_token = vlm.base.config.image_token_id
    return (batch.attention_mask == 1) & (batch.input_ids != image_token)

"""What the model says of a batch: features, scores and embeddings, from one forward and half a backward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.features import gradients, scores, sketches
from adapt_infinity.features.capture import capturing, capturing_hidden
from adapt_infinity.features.scores import Outputs
from adapt_infinity.features.spec import Spec
from adapt_infinity.features.zero_order import loss_differences
from adapt_infinity.model.checkpoint import Batch, Vlm, answer_hidden_states, answer_logits


@dataclass(frozen=True)
class BatchReading:
    """A batch as the model sees it, fp32, on the CPU, not yet normalised."""

    features: Float[Tensor, "batch dim"]
    embeddings: Float[Tensor, "batch width"]
    scores: dict[str, Float[Tensor, " batch"]]  # `grand` only where a gradient was taken
    dead_modules: tuple[str, ...] = ()  # weights whose gradient is exactly 0 for the whole batch (B = 0 kills all of A)


def read_batch(
    vlm: Vlm,
    batch: Batch,
    nll_bare: Float[np.ndarray, " batch"] | None,
    spec: Spec,
    moments: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    optimiser_steps: int = 0,
) -> BatchReading:
    """Everything that the selector needs to know of these samples.

    `nll_bare` is each sample's loss without its pictures, NaN for a sample that has none; without it there is no score
    that needs it. `moments` are Adam's, by "<decoder layer>.<name within the layer>", after `optimiser_steps`; put them
    on the model's device to spare a transfer a batch. `ValueError`: a row without an answer token;
    `probe.gradient=adam` without moments; a model whose gradients cannot be taken apart by sample (see `capturing`).
    """
    _refuse_unanswered(batch.labels, range(len(batch.labels)))
    bare = None if nll_bare is None else torch.from_numpy(nll_bare).to(vlm.device, torch.float32)
    if spec.feature == "gradient":
        return _with_gradients(vlm, batch, bare, spec, moments or {}, optimiser_steps)
    with torch.no_grad(), capturing_hidden(vlm, spec.embedding_layer) as kept:
        _, outputs = _outputs(vlm, batch, bare)
    features = loss_differences(vlm, batch, spec.layers, spec.dim) if spec.feature == "zero_order" else None
    return _reading(vlm, batch, outputs, bare, features, kept.hidden, {})


def _with_gradients(
    vlm: Vlm,
    batch: Batch,
    bare: Float[Tensor, " batch"] | None,
    spec: Spec,
    moments: Mapping[str, tuple[Tensor, Tensor]],
    optimiser_steps: int,
) -> BatchReading:
    features = torch.zeros(len(batch.labels), spec.dim, device=vlm.device)
    norms: dict[str, Tensor] = {}
    prepare, sketch = gradients.load(spec.gradient), sketches.load(spec.sketch)

    def visit(name: str, gradient: Float[Tensor, "batch out inside"]) -> None:
        norms[name] = torch.linalg.vector_norm(gradient, dim=(1, 2))
        features.add_(sketch(prepare(gradient, moments.get(name), optimiser_steps), name, spec.dim))

    with torch.enable_grad(), capturing(vlm, spec.layers, spec.embedding_layer, visit) as capture:
        logits, outputs = _outputs(vlm, batch, bare)
        capture.backward(logits, outputs.loss_gradient())
    return _reading(vlm, batch, outputs, bare, features, capture.hidden, norms)


def _outputs(
    vlm: Vlm, batch: Batch, bare: Float[Tensor, " batch"] | None
) -> tuple[Float[Tensor, "batch answers words"], Outputs]:
    """What one forward pass says; the logits in their graph, and apart from it."""
    states, labels = answer_hidden_states(vlm, batch)
    squares = states.detach().float().square().sum(dim=-1)
    logits = vlm.head(states).float()
    return logits, Outputs(logits.detach(), labels, None, nll_without_image=bare, squared_hidden_norm=squares)


@torch.no_grad()
def _reading(
    vlm: Vlm,
    batch: Batch,
    outputs: Outputs,
    bare: Float[Tensor, " batch"] | None,
    features: Float[Tensor, "batch dim"] | None,
    hidden: Float[Tensor, "batch time width"],
    norms: Mapping[str, Tensor],
) -> BatchReading:
    """Scores and embeddings; the device is waited for here and nowhere earlier."""
    by_module = torch.stack([norms[name] for name in sorted(norms)]) if norms else None
    grand = None if by_module is None else torch.linalg.vector_norm(by_module, dim=0)
    outputs = outputs.completed(grand, None if bare is None else bare.where(~bare.isnan(), outputs.nll))
    columns = {name: scores.load(name)(outputs) for name in scores.available(outputs)}
    columns["tokens"] = batch.attention_mask.sum(dim=1).float()
    columns["answer_tokens"] = (outputs.labels != IGNORED_LABEL).sum(dim=1).float()
    measured = dict(zip(columns, torch.stack(list(columns.values())).cpu(), strict=True))
    text = _text_positions(vlm, batch).to(hidden.device, torch.float32)
    shares = text / text.sum(dim=1, keepdim=True)
    embeddings = torch.bmm(shares.unsqueeze(1), hidden.float()).squeeze(1).cpu()
    dead: tuple[str, ...] = ()
    if by_module is not None:
        silent = (by_module == 0).all(dim=1).tolist()
        dead = tuple(name for name, is_silent in zip(sorted(norms), silent, strict=True) if is_silent)
    return BatchReading(embeddings if features is None else features.cpu(), embeddings, measured, dead)


def read_losses(vlm: Vlm, batch: Batch) -> Float[Tensor, " batch"]:
    """Each sample's mean answer loss, fp32, on the CPU; `ValueError` names a row without an answer token."""
    _refuse_unanswered(batch.labels, range(len(batch.labels)))
    with torch.no_grad():
        return scores.answer_nll(*answer_logits(vlm, batch)).cpu()


def _refuse_unanswered(labels: Int[Tensor, "batch time"], rows: Sequence[int]) -> None:
    """A mean over no answer token would be NaN: the rows are named instead. The first token is never an answer."""
    answered = (labels[:, 1:] != IGNORED_LABEL).any(dim=1).tolist()
    bare = [row for row, has_answer in zip(rows, answered, strict=True) if not has_answer]
    if bare:
        raise ValueError(f"no answer token in rows {bare[:5]} of the batch: leave out conversations without an answer")


def _text_positions(vlm: Vlm, batch: Batch) -> Tensor:
    """True where a token is words: neither padding nor a picture's place."""
    image_token = vlm.base.config.image_token_id
    return (batch.attention_mask == 1) & (batch.input_ids != image_token)

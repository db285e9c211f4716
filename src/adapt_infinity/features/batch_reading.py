"""Features, scores and embeddings of one batch, from one forward pass and the upper part of a backward pass.

docs/method.md, section 2, defines the quantities.
"""

from collections.abc import Mapping
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
    """What the model gives for a batch: fp32, on the CPU, not yet normalised."""

    features: Float[Tensor, "batch dim"]
    embeddings: Float[Tensor, "batch width"]
    scores: dict[str, Float[Tensor, " batch"]]  # and the token counts `tokens` and `answer_tokens`
    zero_gradient: tuple[str, ...] = ()  # weights whose gradient is exactly 0 for the whole batch (B = 0: all of A)


def read_batch(
    vlm: Vlm,
    batch: Batch,
    nll_without_image: Float[np.ndarray, " batch"] | None,
    spec: Spec,
    moments: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    optimiser_steps: int = 0,
) -> BatchReading:
    """Features, embeddings and every score that can be computed.

    `nll_without_image` is each sample's loss without its images, NaN for a sample that has none; with None, the scores
    that need it are left out. `moments` are Adam's after `optimiser_steps`, by "<decoder layer>.<name within the
    layer>"; if they are on the model's device, no transfer is needed for each batch.

    `ValueError` for a row without an answer token, for `probe.gradient=adam` without moments, and for a model whose
    gradients cannot be separated by sample (see `capturing`).
    """
    _require_answers(batch.labels)
    if nll_without_image is not None and len(nll_without_image) != len(batch.labels):
        raise ValueError(f"nll_without_image has {len(nll_without_image)} rows, and the batch has {len(batch.labels)}")
    ablated = None if nll_without_image is None else torch.from_numpy(nll_without_image).to(vlm.device, torch.float32)
    if spec.feature == "gradient":
        return _read_with_gradients(vlm, batch, ablated, spec, moments or {}, optimiser_steps)
    with torch.no_grad(), capturing_hidden(vlm, spec.embedding_layer) as captured:
        _, outputs = _forward(vlm, batch, ablated)
    features = loss_differences(vlm, batch, spec.layers, spec.dim) if spec.feature == "zero_order" else None
    return _to_reading(vlm, batch, outputs, ablated, features, captured.hidden, {})


def _read_with_gradients(
    vlm: Vlm,
    batch: Batch,
    ablated: Float[Tensor, " batch"] | None,
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
        logits, outputs = _forward(vlm, batch, ablated)
        capture.backward(logits, outputs.loss_gradient())
    return _to_reading(vlm, batch, outputs, ablated, features, capture.hidden, norms)


def _forward(
    vlm: Vlm, batch: Batch, ablated: Float[Tensor, " batch"] | None
) -> tuple[Float[Tensor, "batch answers words"], Outputs]:
    """One forward pass: the logits as part of their graph, and the outputs for the scores, without a graph."""
    states, labels = answer_hidden_states(vlm, batch)
    squared_norm = states.detach().float().square().sum(dim=-1)
    logits = vlm.head(states).float()
    return logits, Outputs(logits.detach(), labels, None, nll_without_image=ablated, squared_hidden_norm=squared_norm)


@torch.no_grad()
def _to_reading(
    vlm: Vlm,
    batch: Batch,
    outputs: Outputs,
    ablated: Float[Tensor, " batch"] | None,
    features: Float[Tensor, "batch dim"] | None,
    hidden: Float[Tensor, "batch time width"],
    norms: Mapping[str, Tensor],
) -> BatchReading:
    """Scores and embeddings. This is the first place that waits for the device."""
    by_weight = torch.stack([norms[name] for name in sorted(norms)]) if norms else None
    gradient_norm = None if by_weight is None else torch.linalg.vector_norm(by_weight, dim=0)
    without_image = None if ablated is None else ablated.where(~ablated.isnan(), outputs.nll)
    outputs = outputs.completed(gradient_norm, without_image)
    columns = {name: scores.load(name)(outputs) for name in scores.available(outputs)}
    columns["tokens"] = batch.attention_mask.sum(dim=1).float()
    columns["answer_tokens"] = (outputs.labels != IGNORED_LABEL).sum(dim=1).float()
    on_cpu = dict(zip(columns, torch.stack(list(columns.values())).cpu(), strict=True))
    is_text = _text_mask(vlm, batch).to(hidden.device, torch.float32)
    shares = is_text / is_text.sum(dim=1, keepdim=True)
    embeddings = torch.bmm(shares.unsqueeze(1), hidden.float()).squeeze(1).cpu()
    zero_gradient: tuple[str, ...] = ()
    if by_weight is not None:
        is_zero = (by_weight == 0).all(dim=1).tolist()
        zero_gradient = tuple(name for name, zero in zip(sorted(norms), is_zero, strict=True) if zero)
    return BatchReading(embeddings if features is None else features.cpu(), embeddings, on_cpu, zero_gradient)


def read_losses(vlm: Vlm, batch: Batch) -> Float[Tensor, " batch"]:
    """Each sample's mean answer loss in nats, fp32, on the CPU. `ValueError` names rows without an answer token."""
    _require_answers(batch.labels)
    with torch.no_grad():
        return scores.answer_nll(*answer_logits(vlm, batch)).cpu()


def _require_answers(labels: Int[Tensor, "batch time"]) -> None:
    """Refuse rows whose mean over answer tokens would be NaN. The first token does not count: nothing predicts it."""
    has_answer = (labels[:, 1:] != IGNORED_LABEL).any(dim=1).tolist()
    without = [row for row, answered in enumerate(has_answer) if not answered]
    if without:
        raise ValueError(f"no answer token in rows {without[:5]} of the batch: remove conversations without an answer")


def _text_mask(vlm: Vlm, batch: Batch) -> Tensor:
    """True at text tokens: neither padding nor image tokens."""
    return (batch.attention_mask == 1) & (batch.input_ids != vlm.base.config.image_token_id)

"""Zero-order features: how the loss changes along random directions that all samples share. No autograd is used.

Number j of a row is (L(θ + εz_j) − L(θ − εz_j)) / 2ε, where L is the sample's loss, θ are the probed weights and z_j is
a direction of random signs. To first order, this is √dim times the `rademacher` sketch of the gradient, which uses the
same directions. Rows can be compared because the directions are shared; with a new direction for each sample they
would be noise.

The cost is 2·dim forward passes, in which the decoder layers below the lowest probed one are not computed again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adapt_infinity.features import scores
from adapt_infinity.features.capture import probed_weights
from adapt_infinity.features.counter_rng import directions
from adapt_infinity.model.checkpoint import Batch, Vlm, answer_logits

EPSILON = 1e-3  # ε: the length of a step along each coordinate
DIRECTIONS_AT_A_TIME = 64  # in memory


@torch.no_grad()
def loss_differences(vlm: Vlm, batch: Batch, layers: Sequence[int], dim: int) -> Float[Tensor, "batch dim"]:
    """One row per sample, fp32, for the weights of these decoder layers.

    Afterwards, and also after an error, the weights are bit for bit what they were. `ValueError` in half precision,
    where rounding errors are larger than the differences.
    """
    if vlm.base.dtype != torch.float32:
        raise ValueError(f"probe.feature=zero_order needs model.dtype=float32, got {vlm.base.dtype}")
    weights = probed_weights(vlm, layers)
    device = next(iter(weights.values())).device
    on_device = replace(
        batch,
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
        extras={name: tensor.to(device) for name, tensor in batch.extras.items()},
    )
    with _outputs_below_reused(vlm, layers[0], on_device), _restored_afterwards(weights.values()) as originals:
        rows = torch.empty(len(batch.labels), dim, device=device)
        for first in range(0, dim, DIRECTIONS_AT_A_TIME):
            count = min(DIRECTIONS_AT_A_TIME, dim - first)
            signs = {name: directions(name, weight.numel(), first, count, device) for name, weight in weights.items()}
            for offset in range(count):
                losses = []
                for step in (EPSILON, -EPSILON):
                    for (name, weight), original in zip(weights.items(), originals, strict=True):
                        torch.add(original, signs[name][offset].view_as(weight), alpha=step, out=weight.data)
                    losses.append(scores.answer_nll(*answer_logits(vlm, on_device)))
                rows[:, first + offset] = (losses[0] - losses[1]) / (2 * EPSILON)
    return rows


@contextmanager
def _restored_afterwards(weights: Any) -> Iterator[list[Tensor]]:
    """Copies of the weights, which are copied back at the end."""
    originals = [weight.detach().clone() for weight in weights]
    try:
        yield originals
    finally:
        for weight, original in zip(weights, originals, strict=True):
            weight.data.copy_(original)


@contextmanager
def _outputs_below_reused(vlm: Vlm, lowest: int, batch: Batch) -> Iterator[None]:
    """While open, decoder layers below `lowest` return their outputs for this batch without computing them again.

    The layer `lowest` gets its own recorded input, because a model family may compute something between two layers.
    """
    below = list(vlm.layers[:lowest])
    inputs: list[Tensor] = []
    outputs: list[Any] = []

    def record_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append((args[0] if args else kwargs["hidden_states"]).clone())

    def replace_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return ((inputs[0], *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": inputs[0]})

    if not below:
        yield
        return
    handles = [
        vlm.layers[lowest].register_forward_pre_hook(record_input, with_kwargs=True),
        below[-1].register_forward_hook(lambda _module, _args, output: outputs.append(output)),
    ]
    try:
        answer_logits(vlm, batch)
    finally:
        for handle in handles:
            handle.remove()
    handle = vlm.layers[lowest].register_forward_pre_hook(replace_input, with_kwargs=True)
    for layer in below:
        layer.forward = lambda *_args, **_kwargs: outputs[0]
    try:
        yield
    finally:
        handle.remove()
        for layer in below:
            del layer.forward

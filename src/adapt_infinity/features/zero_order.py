"""Zero-order features: how the loss changes along random directions shared by all samples; no autograd anywhere.

Number j of a row is (L(θ+εz_j) − L(θ−εz_j)) / 2ε for the sample's loss L, the probed weights θ and a direction z_j of
random signs. To first order that is √dim times the `rademacher` sketch of the gradient, which uses the same
directions. Shared directions make two rows comparable; a fresh one a sample would make them noise.

Costs 2·dim forward passes, of which the decoder layers below the lowest probed one are spared.
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

EPSILON = 1e-3
TOGETHER = 64  # directions unpacked at a time


@torch.no_grad()
def loss_differences(vlm: Vlm, batch: Batch, layers: Sequence[int], dim: int) -> Float[Tensor, "batch dim"]:
    """The rows, fp32. The weights are afterwards what they were, bit by bit, even after an error.

    `ValueError` in half precision, where rounding is larger than the differences.
    """
    if vlm.base.dtype != torch.float32:
        raise ValueError(f"probe.feature=zero_order needs model.dtype=float32, got {vlm.base.dtype}")
    weights = probed_weights(vlm, layers)
    device = next(iter(weights.values())).device
    here = replace(
        batch,
        input_ids=batch.input_ids.to(device),
        attention_mask=batch.attention_mask.to(device),
        extras={name: tensor.to(device) for name, tensor in batch.extras.items()},
    )
    with _spared_below(vlm, layers[0], here), _restored(weights.values()) as kept:
        made = torch.empty(len(batch.labels), dim, device=device)
        for first in range(0, dim, TOGETHER):
            count = min(TOGETHER, dim - first)
            ways = {name: directions(name, weight.numel(), first, count, device) for name, weight in weights.items()}
            for place in range(count):
                losses = []
                for step in (EPSILON, -EPSILON):
                    for (name, weight), before in zip(weights.items(), kept, strict=True):
                        torch.add(before, ways[name][place].view_as(weight), alpha=step, out=weight.data)
                    losses.append(scores.answer_nll(*answer_logits(vlm, here)))
                made[:, first + place] = (losses[0] - losses[1]) / (2 * EPSILON)
    return made


@contextmanager
def _restored(weights: Any) -> Iterator[list[Tensor]]:
    """Copies of the weights, which are put back at the end."""
    kept = [weight.detach().clone() for weight in weights]
    try:
        yield kept
    finally:
        for weight, before in zip(weights, kept, strict=True):
            weight.data.copy_(before)


@contextmanager
def _spared_below(vlm: Vlm, lowest: int, batch: Batch) -> Iterator[None]:
    """While open, decoder layers below `lowest` give back what they gave for this batch, without computing it again.

    The layer `lowest` is handed its own input of that pass, whatever a family may do between two layers.
    """
    below = list(vlm.layers[:lowest])
    entered: list[Tensor] = []
    given: list[Any] = []

    def remember_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entered.append((args[0] if args else kwargs["hidden_states"]).clone())

    def hand_over(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return ((entered[0], *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": entered[0]})

    if not below:
        yield
        return
    handles = [
        vlm.layers[lowest].register_forward_pre_hook(remember_input, with_kwargs=True),
        below[-1].register_forward_hook(lambda _module, _args, output: given.append(output)),
    ]
    try:
        answer_logits(vlm, batch)
    finally:
        for handle in handles:
            handle.remove()
    handle = vlm.layers[lowest].register_forward_pre_hook(hand_over, with_kwargs=True)
    for layer in below:
        layer.forward = lambda *_args, **_kwargs: given[0]
    try:
        yield
    finally:
        handle.remove()
        for layer in below:
            del layer.forward

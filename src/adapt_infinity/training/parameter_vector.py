"""What is trained, as one vector θ, and its gradient g as another: methods read like their formulas.

The model's own parameters become windows on θ and their gradients windows on g. So the optimiser, clipping, penalties,
projections, averages and checkpoints are each one operation on a vector, and a weight that a step did not reach has the
gradient 0 and not none.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.model import adapters
from adapt_infinity.model.checkpoint import Vlm


@dataclass(frozen=True)
class Weights:
    """Trained weights in a fixed order: those at the usual rate, then those at the projector's, each by name."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    theta: Float[Tensor, " weights"]
    gradient: Float[Tensor, " weights"]
    slow: int  # where those at the projector's rate begin

    def named(self, vector: Float[Tensor, " weights"]) -> dict[str, Tensor]:
        """Windows on a vector of weights (or of anything a weight has), by the weights' names."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    @property
    def layout(self) -> str:
        """16 digits that name the order: vectors of one layout can be compared."""
        order = [[name, *shape] for name, shape in zip(self.names, self.shapes, strict=True)]
        return hashlib.blake2b(json.dumps(order).encode(), digest_size=8).hexdigest()

    @contextmanager
    def holding(self, theta: Float[Tensor, " weights"]) -> Iterator[None]:
        """Other weights in the model for a while; for what is computed without a graph that outlasts it."""
        kept = self.theta.clone()
        self.theta.copy_(theta)
        try:
            yield
        finally:
            self.theta.copy_(kept)


def gather(vlm: Vlm, projector: str) -> Weights:
    """Make the adapter's weights trainable and bring them together; `projector` finds the slow ones by name."""
    if vlm.adapter_type:
        found = adapters.load(vlm.adapter_type["kind"]).trainable_weights(vlm.model, vlm.adapter_type)
    else:
        found = {name: weight for name, weight in vlm.model.named_parameters() if "lora_" in name}
    assert found, "there is an adapter on the model"
    kinds = {weight.dtype for weight in found.values()}
    if kinds != {torch.float32}:
        raise ValueError(f"adapter weights are trained in float32, got {', '.join(sorted(map(str, kinds)))}")
    names = sorted(found, key=lambda name: (re.search(projector, name) is not None, name))
    theta = torch.cat([found[name].detach().flatten() for name in names])
    gradient = torch.zeros_like(theta)
    fast = [name for name in names if re.search(projector, name) is None]
    weights = Weights(
        names=tuple(names),
        shapes=tuple(found[name].shape for name in names),
        theta=theta,
        gradient=gradient,
        slow=sum(found[name].numel() for name in fast),
    )
    windows, gradients = weights.named(theta), weights.named(gradient)
    for name, weight in found.items():
        weight.data = windows[name]
        weight.requires_grad_(True)
        weight.grad = gradients[name]
    return weights

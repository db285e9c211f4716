"""The parameter vector: all trained weights as one vector θ, and their gradients as another vector g.

The model's parameters become views of θ, and their gradients views of g. So the optimiser, clipping, penalties,
projections, averages and checkpoints are each one operation on a vector, methods read like their formulas, and a weight
that no sample of a step reached has the gradient 0 instead of None.
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
    """The trained weights in a fixed order: first all others, then those of the projector, both sorted by name."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    theta: Float[Tensor, " weights"]
    gradient: Float[Tensor, " weights"]
    projector_start: int  # the projector's weights, which have their own learning rate, begin here

    def views(self, vector: Float[Tensor, " weights"]) -> dict[str, Tensor]:
        """Views of a vector with one entry per weight, in the shapes of the weights and by their names."""
        parts = vector.split([shape.numel() for shape in self.shapes])
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    @property
    def layout(self) -> str:
        """16 hexadecimal digits that identify names, shapes and order; vectors of the same layout can be compared."""
        order = [[name, *shape] for name, shape in zip(self.names, self.shapes, strict=True)]
        return hashlib.blake2b(json.dumps(order).encode(), digest_size=8).hexdigest()

    @contextmanager
    def replaced_by(self, theta: Float[Tensor, " weights"]) -> Iterator[None]:
        """While the context is open, the model has the weights `theta`; for computations without a gradient."""
        saved = self.theta.clone()
        self.theta.copy_(theta)
        try:
            yield
        finally:
            self.theta.copy_(saved)


def collect_weights(vlm: Vlm, projector: str) -> Weights:
    """Make the adapter's weights trainable, and make them views of one vector.

    `projector` is a regular expression that matches the names of the weights with the projector's learning rate.
    `ValueError` when a weight is not float32.
    """
    if vlm.adapter_type:
        found = adapters.load(vlm.adapter_type["kind"]).trainable_weights(vlm.model, vlm.adapter_type)
    else:
        found = {name: weight for name, weight in vlm.model.named_parameters() if "lora_" in name}
    assert found, "the model must have an adapter"
    dtypes = {weight.dtype for weight in found.values()}
    if dtypes != {torch.float32}:
        raise ValueError(f"adapter weights are trained in float32, got {', '.join(sorted(map(str, dtypes)))}")
    names = sorted(found, key=lambda name: (re.search(projector, name) is not None, name))
    theta = torch.cat([found[name].detach().flatten() for name in names])
    gradient = torch.zeros_like(theta)
    weights = Weights(
        names=tuple(names),
        shapes=tuple(found[name].shape for name in names),
        theta=theta,
        gradient=gradient,
        projector_start=sum(found[name].numel() for name in names if re.search(projector, name) is None),
    )
    views, gradients = weights.views(theta), weights.views(gradient)
    for name, weight in found.items():
        weight.data = views[name]
        weight.requires_grad_(True)
        weight.grad = gradients[name]
    return weights

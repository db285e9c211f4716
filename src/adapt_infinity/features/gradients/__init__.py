"""What is made of a module's per-sample gradients before they are sketched; one file each, found by name.

Each has one function, `prepare(gradient, moments, steps) -> the same shape`. `moments` are Adam's running means of the
module's gradient and of its square (of the weight's own shape), `steps` how many optimiser steps made them; files that
do not need them ignore them.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from adapt_infinity import registry

Moments = tuple[Tensor, Tensor]
Prepare = Callable[[Float[Tensor, "batch out inside"], Moments | None, int], Float[Tensor, "batch out inside"]]


def names() -> list[str]:
    """Every form of the gradient there is."""
    return registry.names(__name__)


def load(name: str) -> Prepare:
    """The function `prepare` of the file `name`; `ValueError` names the known ones."""
    prepare: Prepare = registry.load(__name__, name, "prepare")
    return prepare

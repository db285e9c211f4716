"""What is done to a module's per-sample gradients before they are sketched. One file each, found by file name.

sgd.py   nothing: the gradient itself
sign.py  the signs of its entries
adam.py  the step that Adam would take on this sample

Each file has one function, `prepare(gradient, moments, steps)`, which returns a tensor of the gradient's shape.
`moments` are Adam's running means of the module's gradient and of its square (each of the weight's shape), and `steps`
is the number of optimiser steps behind them. Files that do not need them ignore them.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from adapt_infinity import registry

Moments = tuple[Tensor, Tensor]
Prepare = Callable[[Float[Tensor, "batch out inside"], Moments | None, int], Float[Tensor, "batch out inside"]]


def names() -> list[str]:
    """The names of all files."""
    return registry.names(__name__)


def load(name: str) -> Prepare:
    """The function `prepare` of the file `name`. `ValueError` lists the known ones."""
    prepare: Prepare = registry.load(__name__, name, "prepare")
    return prepare

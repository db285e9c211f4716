"""Sketches: random projections that shorten a gradient and keep inner products in expectation. One file each.

segments.py    a count sketch with buckets of equal size (the default)
rademacher.py  a dense projection on directions of random signs (slow, for comparison)

Each file has one function, `sketch(gradient, module, dim) -> [batch, dim]`. It depends on its arguments alone and not
on the device, the batch or the worker, so that rows of two machines can be mixed. Sketches are linear: the sketches of
several modules add up to the sketch of all of them together (docs/method.md, section 2).
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from adapt_infinity import registry

Sketch = Callable[[Float[Tensor, "batch ..."], str, int], Float[Tensor, "batch dim"]]


def names() -> list[str]:
    """The names of all sketches."""
    return registry.names(__name__)


def load(name: str) -> Sketch:
    """The function `sketch` of the file `name`. `ValueError` lists the known ones."""
    sketch: Sketch = registry.load(__name__, name, "sketch")
    return sketch

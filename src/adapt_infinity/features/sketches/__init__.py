"""How a per-sample gradient of millions of numbers is made short so that inner products survive; one file each.

Each has one function, `sketch(gradient, module, dim) -> [batch, dim]`, that depends on nothing but its arguments: not
on the device, the batch or the worker, so that rows of two machines can be mixed. Sketches are linear, and those of
several modules add up to the sketch of them all.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from adapt_infinity import registry

Sketch = Callable[[Float[Tensor, "batch ..."], str, int], Float[Tensor, "batch dim"]]


def names() -> list[str]:
    """Every sketch there is."""
    return registry.names(__name__)


def load(name: str) -> Sketch:
    """The function `sketch` of the file `name`; `ValueError` names the known ones."""
    sketch: Sketch = registry.load(__name__, name, "sketch")
    return sketch

"""Engines: who finds the nearest centroid of a block of rows; one file each, found by name.

Each has one function, `searcher(centroids, device) -> nearest`, where `nearest(rows)` gives each row's nearest centroid
(of equally near ones always the same), and what later comparisons may rely on: a cosine that the one to this centroid
does not fall below, and one that those to all others do not exceed (−2 where there is none). `ValueError` for a device
that the engine cannot use.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from adapt_infinity import registry

Found = tuple[Int64[Tensor, " m"], Float32[Tensor, " m"], Float32[Tensor, " m"]]
Nearest = Callable[[Float32[Tensor, "m dim"]], Found]
Searcher = Callable[[Float32[Tensor, "k dim"], torch.device], Nearest]
NONE = -2.0  # below any cosine
SLACK = 1e-6  # by which a cosine in single precision may be off


def names() -> list[str]:
    """Every engine there is."""
    return registry.names(__name__)


def load(name: str) -> Searcher:
    """The engine `name`, or, for `auto`, the one that was measured to be fastest (docs/decisions.md)."""
    searcher: Searcher = registry.load(__name__, "torch" if name == "auto" else name, "searcher")
    return searcher

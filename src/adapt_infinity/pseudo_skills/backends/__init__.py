"""Backends: libraries that find the nearest centroid of each row. One file each, found by name.

Each file has one function, `searcher(centroids, device) -> nearest`. `nearest(rows)` returns three tensors with one
entry per row: the number of the nearest centroid (of equally near ones always the same), a lower bound of the cosine to
this centroid, and an upper bound of the cosines to all other centroids (`NO_COSINE` where there are no others).
k-means skips later comparisons by these bounds. A backend raises `ValueError` for a device that it cannot use.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from adapt_infinity import registry

LabelsAndBounds = tuple[Int64[Tensor, " m"], Float32[Tensor, " m"], Float32[Tensor, " m"]]
FindNearest = Callable[[Float32[Tensor, "m dim"]], LabelsAndBounds]
Searcher = Callable[[Float32[Tensor, "k dim"], torch.device], FindNearest]
NO_COSINE = -2.0  # below any cosine
COSINE_ERROR = 1e-6  # largest rounding error of a cosine in single precision


def names() -> list[str]:
    """Names of all backends, sorted."""
    return registry.names(__name__)


def load(name: str) -> Searcher:
    """The function `searcher` of the backend `name`; `auto` is torch, the fastest in docs/decisions.md.

    `ValueError` for an unknown name lists the known ones.
    """
    searcher: Searcher = registry.load(__name__, "torch" if name == "auto" else name, "searcher")
    return searcher

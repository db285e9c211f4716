"""Nearest centroids by torch: one matrix product per piece of rows, on any device that torch supports."""

import torch
from jaxtyping import Float32
from torch import Tensor

from adapt_infinity.pseudo_skills.backends import COSINE_ERROR, NO_COSINE, FindNearest, LabelsAndBounds


def searcher(centroids: Float32[Tensor, "k dim"], device: torch.device) -> FindNearest:
    """A search of the centroids; rows may be on any device, the results are on `device`."""
    transposed = centroids.to(device).T.contiguous()

    def nearest(rows: Float32[Tensor, "m dim"]) -> LabelsAndBounds:
        cosines = rows.to(device) @ transposed
        best, label = cosines.max(dim=1)
        cosines.scatter_(1, label[:, None], NO_COSINE)
        return label, best - COSINE_ERROR, cosines.amax(dim=1) + COSINE_ERROR

    return nearest

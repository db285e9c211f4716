"""Torch: one matrix product a block, on any device that torch knows."""

import torch
from jaxtyping import Float32
from torch import Tensor

from adapt_infinity.pseudo_skills.backends import NONE, SLACK, Found, Nearest


def searcher(centroids: Float32[Tensor, "k dim"], device: torch.device) -> Nearest:
    """Rows may come from any device; what is found is on `device`."""
    across = centroids.to(device).T.contiguous()

    def nearest(rows: Float32[Tensor, "m dim"]) -> Found:
        cosines = rows.to(device) @ across
        best, label = cosines.max(dim=1)
        cosines.scatter_(1, label[:, None], NONE)
        return label, best - SLACK, cosines.amax(dim=1) + SLACK

    return nearest

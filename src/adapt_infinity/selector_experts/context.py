"""What is known of every sample when it is judged: its reading, its past, a reference's reading, its neighbours."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int

BLOCK = 1024  # rows whose cosines are computed at a time
DECIMALS = 6  # of a cosine: copies tie in spite of single precision


@dataclass(frozen=True, kw_only=True)
class ScoringContext:
    """Rows by ascending sample_id; what was not measured is NaN."""

    scores: pd.DataFrame  # of this round's reading
    cluster: Int[np.ndarray, " n"]
    gradients: Float[np.ndarray, "n dim"]  # unit rows, half or single precision, perhaps on disk
    embeddings: Float[np.ndarray, "n hidden"]  # the same
    previous_nll: Float[np.ndarray, " n"]  # loss under the adapter before the last round's training
    reference_nll: Float[np.ndarray, " n"]  # loss under the reference adapter
    targets: Float32[np.ndarray, "skills dim"]  # mean gradient feature of each skill's validation samples
    experts: tuple[str, ...]  # those that compete
    neighbours: int

    @property
    def nll(self) -> Float[np.ndarray, " n"]:
        """Loss now, nats an answer token."""
        return self.scores["nll"].to_numpy(dtype=np.float64)

    @cached_property
    def nearest(self) -> Float32[np.ndarray, "n neighbours"]:
        """Cosines of each row's embedding with its nearest neighbours in its cluster, the nearest first.

        NaN where the cluster has fewer other rows. A cluster of m rows costs m² cosines, block by block.
        """
        found = np.full((len(self.cluster), self.neighbours), np.nan, dtype=np.float32)
        order = np.argsort(self.cluster, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(self.cluster[order])) + 1):
            count = min(self.neighbours, len(members) - 1)
            if count > 0:
                found[members, :count] = _nearest(self.embeddings[members], count)
        return found


def _nearest(rows: Float[np.ndarray, "m hidden"], count: int) -> Float32[np.ndarray, "m count"]:
    unit = torch.nn.functional.normalize(torch.from_numpy(np.asarray(rows)).float(), dim=1)
    found = torch.empty(len(unit), count)
    for start in range(0, len(unit), BLOCK):
        cosines = unit[start : start + BLOCK] @ unit.T
        cosines.diagonal(start).fill_(-torch.inf)  # a row is no neighbour of itself
        found[start : start + BLOCK] = cosines.topk(count, dim=1).values
    return found.round_(decimals=DECIMALS).numpy()

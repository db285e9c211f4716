"""What is known about the samples when comparisons score them: losses, gradients, embeddings and clusters."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Int

BLOCK = 1024  # rows whose cosines are computed at a time
DECIMALS = 6  # cosines are rounded to these, so that duplicates are equally near in spite of single precision


@dataclass(frozen=True, kw_only=True)
class ScoringContext:
    """Arrays and a table with one row per sample, by ascending sample_id; NaN where nothing was measured."""

    scores: pd.DataFrame  # the probe's scores of this round
    cluster: Int[np.ndarray, " n"]
    gradients: Float[np.ndarray, "n dim"]  # length 1, half or single precision, may be mapped from a file
    embeddings: Float[np.ndarray, "n hidden"]  # the same
    previous_nll: Float[np.ndarray, " n"]  # loss under the adapter before the last round's training
    reference_nll: Float[np.ndarray, " n"]  # loss under the reference adapter
    targets: Float32[np.ndarray, "skills dim"]  # mean gradient of each skill's validation samples
    experts: tuple[str, ...]  # the listed experts that are columns of `scores`
    neighbours: int

    @property
    def nll(self) -> Float[np.ndarray, " n"]:
        """The loss now, in nats per answer token."""
        return self.scores["nll"].to_numpy(dtype=np.float64)

    @cached_property
    def nearest(self) -> Float32[np.ndarray, "n neighbours"]:
        """Cosines of each sample's embedding to its nearest neighbours in its cluster, the nearest first.

        NaN where the cluster has fewer other samples. A cluster of m samples costs m² cosines, computed in blocks.
        """
        nearest = np.full((len(self.cluster), self.neighbours), np.nan, dtype=np.float32)
        order = np.argsort(self.cluster, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(self.cluster[order])) + 1):
            count = min(self.neighbours, len(members) - 1)
            if count > 0:
                nearest[members, :count] = _nearest(self.embeddings[members], count)
        return nearest


def _nearest(rows: Float[np.ndarray, "m hidden"], count: int) -> Float32[np.ndarray, "m count"]:
    unit = torch.nn.functional.normalize(torch.from_numpy(np.asarray(rows)).float(), dim=1)
    nearest = torch.empty(len(unit), count)
    for start in range(0, len(unit), BLOCK):
        cosines = unit[start : start + BLOCK] @ unit.T
        cosines.diagonal(start).fill_(-torch.inf)  # a row is not its own neighbour
        nearest[start : start + BLOCK] = cosines.topk(count, dim=1).values
    return nearest.round_(decimals=DECIMALS).numpy()

"""Rules that share the budget out over clusters. One file each, with

    weights(statistics) -> one weight a cluster, at least 0; or None where all are equal to the last sample

A cluster gets budget in proportion to its weight, up to its size (`budgets.weighted_shares`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from adapt_infinity import registry

BLOCK = 16_384  # gradient rows read at a time


@dataclass(frozen=True, kw_only=True)
class ClusterStatistics:
    """What the rules may read; rows by ascending sample_id."""

    code: Int[np.ndarray, " n"]  # each row's cluster: 0, 1, …
    sizes: Int[np.ndarray, " clusters"]
    similarity: Float[np.ndarray, " n"]  # cosine to the own centroid
    scores: pd.DataFrame
    gradients: Float[np.ndarray, "n dim"]  # unit rows, half or single precision, perhaps on disk

    def column(self, name: str) -> Float[np.ndarray, " n"]:
        """A score of every row; `ValueError` names a sample where it is not finite."""
        values = self.scores[name].to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            worst = self.scores["sample_id"].iloc[bad[0]]
            raise ValueError(f"{len(bad)} scores are not finite, first {name!r} = {values[bad[0]]} of sample {worst}")
        return values

    def mean(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " clusters"]:
        """Of every cluster."""
        return np.bincount(self.code, values, len(self.sizes)) / self.sizes


Weights = Callable[[ClusterStatistics], Float[np.ndarray, " clusters"] | None]


def names() -> list[str]:
    """Every rule there is."""
    return registry.names(__name__)


def load(name: str) -> Weights:
    """The function `name`; `ValueError` names the known ones."""
    weights: Callable[[ClusterStatistics], Float[np.ndarray, " clusters"] | None] = registry.load(
        __name__, name, "weights"
    )
    return weights


def centroid_sums(statistics: ClusterStatistics) -> Float[np.ndarray, "clusters dim"]:
    """The sum of each cluster's gradient rows, block by block."""
    sums = np.zeros((len(statistics.sizes), statistics.gradients.shape[1]))
    for start in range(0, len(statistics.code), BLOCK):
        part = statistics.code[start : start + BLOCK]
        order = np.argsort(part, kind="stable")
        present, starts = np.unique(part[order], return_index=True)
        rows = statistics.gradients[start : start + BLOCK].astype(np.float64)
        sums[present] += np.add.reduceat(rows[order], starts)
    return sums

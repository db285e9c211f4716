"""Rules for the share of the budget that each cluster gets. One file each, found by name.

Each file has one function, `weights(statistics)`: one weight per cluster, at least 0, or None for equal shares. A
cluster gets a share in proportion to its weight, up to its size (`budgets.weighted_shares`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from adapt_infinity import registry
from adapt_infinity.data.tables import require_columns

BLOCK = 16_384  # gradient rows read at a time


@dataclass(frozen=True, kw_only=True)
class ClusterStatistics:
    """What the rules can read. Arrays and the table have one row per sample, by ascending sample_id."""

    code: Int[np.ndarray, " n"]  # index of each sample's cluster: 0, 1, …
    sizes: Int[np.ndarray, " clusters"]
    similarity: Float[np.ndarray, " n"]  # cosine to the centroid of the sample's cluster
    scores: pd.DataFrame
    gradients: Float[np.ndarray, "n dim"]  # length 1, half or single precision, may be mapped from a file

    def column(self, name: str) -> Float[np.ndarray, " n"]:
        """One score of every sample; `ValueError` if there is no such score, or a sample's score is not finite."""
        require_columns(self.scores, "scores", ("sample_id", name))
        values = self.scores[name].to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            first = self.scores["sample_id"].iloc[bad[0]]
            raise ValueError(f"{len(bad)} scores are not finite, first {name!r} = {values[bad[0]]} of sample {first}")
        return values

    def mean(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " clusters"]:
        """The mean of each cluster."""
        return np.bincount(self.code, values, len(self.sizes)) / self.sizes


Weights = Callable[[ClusterStatistics], Float[np.ndarray, " clusters"] | None]


def names() -> list[str]:
    """Names of all rules, sorted."""
    return registry.names(__name__)


def load(name: str) -> Weights:
    """The function `weights` of the rule `name`; `ValueError` for an unknown name lists the known ones."""
    weights: Weights = registry.load(__name__, name, "weights")
    return weights


def centroid_sums(statistics: ClusterStatistics) -> Float[np.ndarray, "clusters dim"]:
    """The sum of each cluster's gradients, computed in blocks of `BLOCK` rows."""
    sums = np.zeros((len(statistics.sizes), statistics.gradients.shape[1]))
    for start in range(0, len(statistics.code), BLOCK):
        part = statistics.code[start : start + BLOCK]
        order = np.argsort(part, kind="stable")
        present, starts = np.unique(part[order], return_index=True)
        rows = statistics.gradients[start : start + BLOCK].astype(np.float64)
        sums[present] += np.add.reduceat(rows[order], starts)
    return sums

"""Density: more for clusters that are spread out and far from the others (Abbas et al. 2024, arXiv:2401.04578)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selection.shares import Ledger, centroid_sums


def weights(ledger: Ledger) -> Float[np.ndarray, " clusters"]:
    """Mean distance of the rows to their centroid, times its mean distance to the other centroids."""
    return np.maximum(1 - ledger.mean(ledger.similarity), 0) * _distances(ledger)


def _distances(ledger: Ledger) -> Float[np.ndarray, " clusters"]:
    """Mean cosine distance of each cluster's centroid to the others; 1 if there are no others."""
    count = len(ledger.sizes)
    if count < 2:
        return np.ones(count)
    sums = centroid_sums(ledger)
    centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    own = (centroids**2).sum(axis=1)
    return np.maximum(1 - (centroids @ centroids.sum(axis=0) - own) / (count - 1), 0)

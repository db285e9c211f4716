"""Density: more for clusters that are spread out and far from the others (Abbas et al. 2024, arXiv:2401.04578)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selection.shares import Ledger

BLOCK = 16_384  # gradient rows read at a time


def weights(ledger: Ledger) -> Float[np.ndarray, " clusters"]:
    """Mean distance of the rows to their centroid, times its mean distance to the other centroids."""
    return np.maximum(1 - ledger.mean(ledger.similarity), 0) * _distances(ledger)


def _distances(ledger: Ledger) -> Float[np.ndarray, " clusters"]:
    """Mean cosine distance of each cluster's centroid to the others; 1 if there are no others."""
    count = len(ledger.sizes)
    if count < 2:
        return np.ones(count)
    sums = np.zeros((count, ledger.gradients.shape[1]))
    for start in range(0, len(ledger.code), BLOCK):
        part = ledger.code[start : start + BLOCK]
        order = np.argsort(part, kind="stable")
        present, starts = np.unique(part[order], return_index=True)
        rows = ledger.gradients[start : start + BLOCK].astype(np.float64)
        sums[present] += np.add.reduceat(rows[order], starts)
    centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    own = (centroids**2).sum(axis=1)
    return np.maximum(1 - (centroids @ centroids.sum(axis=0) - own) / (count - 1), 0)

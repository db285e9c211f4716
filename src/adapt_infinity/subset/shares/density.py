"""Larger shares for clusters that are spread out and far from the others (Abbas et al. 2024, arXiv:2401.04578)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics, centroid_sums


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """Mean cosine distance of the samples to their centroid, times its mean cosine distance to the other centroids."""
    return np.maximum(1 - statistics.mean(statistics.similarity), 0) * _distances(statistics)


def _distances(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """Mean cosine distance of each centroid to the others; 1 if there are no others."""
    count = len(statistics.sizes)
    if count < 2:
        return np.ones(count)
    sums = centroid_sums(statistics)
    centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    own = (centroids**2).sum(axis=1)
    return np.maximum(1 - (centroids @ centroids.sum(axis=0) - own) / (count - 1), 0)

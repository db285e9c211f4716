"""Larger shares for clusters that resemble many others and are not dense (COINCIDE, Lee et al. 2024, arXiv:2406.10995,
section 3.2).

    P ∝ exp(S / (τ D))    S: mean cosine of the cluster's centroid to the others; D: the cluster's density

The published density is the mean of the Gaussian kernel exp(−‖p − q‖² / 2) over pairs of samples. Here D is this kernel
at the mean squared distance of the pairs, which needs no pairs: it follows from the length of the sum of the samples.
D is 1 for duplicates.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics, centroid_sums

TEMPERATURE = 0.1  # τ, as published
LARGEST_DIFFERENCE = 50.0  # exponents that are further below the largest one are raised to this difference


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """The probabilities P, which sum to 1."""
    sums = centroid_sums(statistics)
    sizes = statistics.sizes.astype(np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    centroids = sums / np.maximum(lengths, np.finfo(np.float64).tiny)[:, None]
    others = max(len(sizes) - 1, 1)
    similarity = (centroids @ centroids.sum(axis=0) - (centroids**2).sum(axis=1)) / others
    squared = 2 * (1 - (lengths / sizes) ** 2) * sizes / np.maximum(sizes - 1, 1)
    density = np.exp(-squared / 2)
    exponent = similarity / (TEMPERATURE * density)
    exponent = np.clip(exponent - exponent.max(), -LARGEST_DIFFERENCE, 0)
    return np.exp(exponent) / np.exp(exponent).sum()

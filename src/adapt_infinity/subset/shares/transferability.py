"""Transferability: more for clusters that resemble many others and are not dense (COINCIDE, Lee et al. 2024,
arXiv:2406.10995, section 3.2).

    P ∝ exp(S / (τ D))    S the mean cosine of a cluster's centroid to the others, D its density

D is the mean of the Gaussian kernel exp(−‖p − q‖² / 2) over pairs of its rows, taken at their mean squared distance,
which is closed: 1 for copies.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics, centroid_sums

TEMPERATURE = 0.1  # τ, as published
LARGEST = 50.0  # of the exponents' differences: what is less likely than e^−50 is as good as nothing


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """Weights that sum to 1."""
    sums = centroid_sums(statistics)
    sizes = statistics.sizes.astype(np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    centroids = sums / np.maximum(lengths, np.finfo(np.float64).tiny)[:, None]
    others = max(len(sizes) - 1, 1)
    alike = (centroids @ centroids.sum(axis=0) - (centroids**2).sum(axis=1)) / others
    squared = 2 * (1 - (lengths / sizes) ** 2) * sizes / np.maximum(sizes - 1, 1)
    density = np.exp(-squared / 2)
    exponent = alike / (TEMPERATURE * density)
    exponent = np.clip(exponent - exponent.max(), -LARGEST, 0)
    return np.exp(exponent) / np.exp(exponent).sum()

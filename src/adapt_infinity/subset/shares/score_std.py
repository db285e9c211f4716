"""Larger shares for clusters whose samples differ more in difficulty (docs/method.md, section 5)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """Standard deviation of EL2N within the cluster."""
    el2n = statistics.column("el2n")
    return np.sqrt(statistics.mean((el2n - statistics.mean(el2n)[statistics.code]) ** 2))

"""Larger shares for clusters on which the model's loss is higher."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """Mean loss now, in nats per answer token."""
    return statistics.mean(statistics.column("nll"))

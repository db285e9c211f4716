"""Loss: more for clusters that the model is still bad at."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"]:
    """Mean loss now, nats an answer token."""
    return statistics.mean(statistics.column("nll"))

"""Forgetting: more for clusters whose loss has risen most since their samples were last trained on.

A sample's baseline is its loss in the first reading after it was trained on (`trained_nll` in the table of scores). A
sample that was never trained on has not been learnt yet: its baseline is the mean of those that have one. While none
has, all clusters weigh the same.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"] | None:
    """Mean rise of the loss, nats an answer token; a cluster that got better has none."""
    baseline = statistics.scores["trained_nll"].to_numpy(dtype=np.float64)
    known = np.isfinite(baseline)
    if not known.any():
        return None
    rise = statistics.column("nll") - np.where(known, baseline, baseline[known].mean())
    return np.maximum(statistics.mean(rise), 0)

"""Larger shares for clusters whose loss has increased most since their samples were last trained on.

The baseline of a sample is its loss in the first reading after it was trained on (`trained_nll` in the table of
scores). The baseline of a sample that was never trained on is the mean of the known baselines. As long as none is
known, all clusters have the same weight.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.data.tables import require_columns
from adapt_infinity.subset.shares import ClusterStatistics


def weights(statistics: ClusterStatistics) -> Float[np.ndarray, " clusters"] | None:
    """Mean increase of the loss, in nats per answer token; 0 for a cluster whose loss has decreased."""
    require_columns(statistics.scores, "scores", ("trained_nll",))
    baseline = statistics.scores["trained_nll"].to_numpy(dtype=np.float64)
    known = np.isfinite(baseline)
    if not known.any():
        return None
    increase = statistics.column("nll") - np.where(known, baseline, baseline[known].mean())
    return np.maximum(statistics.mean(increase), 0)

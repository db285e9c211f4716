"""Density: mean cosine of a sample's embedding with its nearest neighbours in its cluster."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(evidence: ScoringContext) -> Float[np.ndarray, " n"]:
    """At most 1, where all neighbours are copies; 0 for a sample that is alone in its cluster."""
    there = np.isfinite(evidence.nearest)
    sums = np.where(there, evidence.nearest, 0).sum(axis=1, dtype=np.float64)
    return sums / np.maximum(there.sum(axis=1), 1)

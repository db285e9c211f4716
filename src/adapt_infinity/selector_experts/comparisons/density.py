"""Density: mean cosine of a sample's embedding to those of its nearest neighbours in its cluster."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(context: ScoringContext) -> Float[np.ndarray, " n"]:
    """At most 1, if all neighbours are duplicates; 0 for a sample that is alone in its cluster."""
    known = np.isfinite(context.nearest)
    sums = np.where(known, context.nearest, 0).sum(axis=1, dtype=np.float64)
    return sums / np.maximum(known.sum(axis=1), 1)

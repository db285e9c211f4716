"""Uniqueness: cosine distance of a sample's embedding to the nearest other one of its cluster."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(evidence: ScoringContext) -> Float[np.ndarray, " n"]:
    """0 for a copy; 1 for a sample that is alone in its cluster."""
    return 1 - np.nan_to_num(evidence.nearest[:, 0].astype(np.float64), nan=0.0)

"""Uniqueness: cosine distance of a sample's embedding to the nearest other one in its cluster."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(context: ScoringContext) -> Float[np.ndarray, " n"]:
    """0 for a duplicate; 1 for a sample that is alone in its cluster."""
    return 1 - np.nan_to_num(context.nearest[:, 0].astype(np.float64), nan=0.0)

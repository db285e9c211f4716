"""Forgetting: the increase of a sample's loss by the training of the last round (loss now − loss before it)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(context: ScoringContext) -> Float[np.ndarray, " n"]:
    """Nats per answer token; 0 for a sample that has just arrived, because there is no earlier loss."""
    return np.nan_to_num(context.nll - context.previous_nll, nan=0.0)

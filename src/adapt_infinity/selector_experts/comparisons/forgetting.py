"""Forgetting: how much dearer the answer has become by the last round's training (loss now − loss before it)."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(evidence: ScoringContext) -> Float[np.ndarray, " n"]:
    """Nats an answer token; 0 for a sample that has just arrived, of which nothing can have been forgotten."""
    return np.nan_to_num(evidence.nll - evidence.previous_nll, nan=0.0)

"""Entropy: the score that tells the cluster's rows apart best (METHOD section 4; arXiv:2410.10636)."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """Highest entropy first, constant scores last."""
    return candidates.by_entropy()

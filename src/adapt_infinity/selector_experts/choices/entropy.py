"""Choose the score with the highest entropy in the cluster (docs/method.md, section 4; Adapt-∞, arXiv:2410.10636)."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """Highest entropy first, constant scores last."""
    return candidates.by_entropy()

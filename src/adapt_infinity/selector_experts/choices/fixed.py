"""Choose the first listed expert in every cluster."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """The listed order, in every cluster."""
    return np.tile(np.arange(len(candidates.experts)), (len(candidates.clusters), 1))

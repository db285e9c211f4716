"""Choose the mean rank over all experts, in every cluster (comparisons/rank_average.py)."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates

ADDS = "rank_average"  # this expert is a candidate even if it is not listed


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """The mean rank first, then the other experts by entropy."""
    order = candidates.by_entropy()
    others = order != candidates.experts.index(ADDS)
    return np.take_along_axis(order, np.argsort(others, axis=1, kind="stable"), axis=1)

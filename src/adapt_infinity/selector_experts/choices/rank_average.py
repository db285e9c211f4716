"""Rank average: no expert is preferred; their mean rank judges every cluster (comparisons/rank_average.py)."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates

ADDS = "rank_average"  # competes, although it is not listed


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """The average first, then those that it is made of, by entropy."""
    order = candidates.by_entropy()
    last = order != candidates.experts.index(ADDS)
    return np.take_along_axis(order, np.argsort(last, axis=1, kind="stable"), axis=1)

"""Middle: the rows around the median score, as many below as above it; equal scores by sample_id."""

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity.selection.subset import SubsetParams


def sample(
    scores: Float[np.ndarray, " n"],
    sample_ids: Int[np.ndarray, " n"],
    budget: int,
    rng: np.random.Generator,
    params: SubsetParams,
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The `budget` rows in the middle; of an odd rest, one more is left out above than below."""
    selected = np.zeros(len(scores), dtype=bool)
    below = max(0, len(scores) - budget) // 2
    selected[np.lexsort((sample_ids, scores))[below : below + budget]] = True
    return selected, np.full(len(scores), -1)

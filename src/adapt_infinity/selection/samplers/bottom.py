"""Bottom: the rows with the lowest scores (the easiest); equal scores by sample_id."""

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
    """The `budget` lowest."""
    selected = np.zeros(len(scores), dtype=bool)
    selected[np.lexsort((sample_ids, scores))[:budget]] = True
    return selected, np.full(len(scores), -1)

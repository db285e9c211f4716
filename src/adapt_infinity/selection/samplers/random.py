"""Random: uniform without replacement; the scores are not looked at."""

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity.budgets import shuffled
from adapt_infinity.selection.subset import SubsetParams


def sample(
    scores: Float[np.ndarray, " n"],
    sample_ids: Int[np.ndarray, " n"],
    budget: int,
    rng: np.random.Generator,
    params: SubsetParams,
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Any `budget` rows."""
    selected = np.zeros(len(scores), dtype=bool)
    selected[shuffled(sample_ids, rng)[:budget]] = True
    return selected, np.full(len(scores), -1)

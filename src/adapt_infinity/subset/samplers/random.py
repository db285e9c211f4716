"""Random: uniform without replacement; the scores are not looked at."""

import numpy as np
from jaxtyping import Bool, Int

from adapt_infinity.subset.budgets import shuffled
from adapt_infinity.subset.selecting import Members, SubsetParams


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Any `budget` rows."""
    selected = np.zeros(len(members.scores), dtype=bool)
    selected[shuffled(members.sample_ids, rng)[:budget]] = True
    return selected, np.full(len(members.scores), -1)

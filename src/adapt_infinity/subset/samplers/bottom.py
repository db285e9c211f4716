"""Bottom: the rows with the lowest scores (the easiest); equal scores by sample_id."""

import numpy as np
from jaxtyping import Bool, Int

from adapt_infinity.subset.selecting import Members, SubsetParams


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The `budget` lowest."""
    selected = np.zeros(len(members.scores), dtype=bool)
    selected[np.lexsort((members.sample_ids, members.scores))[:budget]] = True
    return selected, np.full(len(members.scores), -1)

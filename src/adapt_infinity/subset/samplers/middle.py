"""Middle: the rows around the median score, as many below as above it; equal scores by sample_id."""

import numpy as np
from jaxtyping import Bool, Int

from adapt_infinity.subset.selecting import Members, SubsetParams


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The `budget` rows in the middle; of an odd rest, one more is left out above than below."""
    selected = np.zeros(len(members.scores), dtype=bool)
    below = max(0, len(members.scores) - budget) // 2
    selected[np.lexsort((members.sample_ids, members.scores))[below : below + budget]] = True
    return selected, np.full(len(members.scores), -1)

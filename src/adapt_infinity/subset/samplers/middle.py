"""Take the samples around the median score, as many below as above it; equal scores by sample_id."""

import numpy as np

from adapt_infinity.subset.samplers import Members, SamplerParams, Selected


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """The `budget` samples in the middle; if an odd number is left out, one more is left out above than below."""
    selected = np.zeros(len(members.scores), dtype=bool)
    below = max(0, len(members.scores) - budget) // 2
    selected[np.lexsort((members.sample_ids, members.scores))[below : below + budget]] = True
    return selected, np.full(len(members.scores), -1)

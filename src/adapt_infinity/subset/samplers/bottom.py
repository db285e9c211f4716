"""Take the samples with the lowest scores, which are the easiest; equal scores by sample_id."""

import numpy as np

from adapt_infinity.subset.samplers import Members, SamplerParams, Selected


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """The `budget` samples with the lowest scores."""
    selected = np.zeros(len(members.scores), dtype=bool)
    selected[np.lexsort((members.sample_ids, members.scores))[:budget]] = True
    return selected, np.full(len(members.scores), -1)

"""Take random samples, uniformly and without replacement; scores are not used."""

import numpy as np

from adapt_infinity.subset.budgets import shuffled
from adapt_infinity.subset.samplers import Members, SamplerParams, Selected


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """Any `budget` samples."""
    selected = np.zeros(len(members.scores), dtype=bool)
    selected[shuffled(members.sample_ids, rng)[:budget]] = True
    return selected, np.full(len(members.scores), -1)

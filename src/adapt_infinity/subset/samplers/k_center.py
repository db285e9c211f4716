"""Take samples such that none of the cluster is far from the nearest one taken: k-center, farthest first
(Gonzalez 1985; Sener & Savarese 2018, arXiv:1708.00489).

The first sample is the one most similar to the cluster's mean, each next one the least similar to those taken so far.
The largest remaining distance is at most twice the smallest possible one. Cost: budget · n · dim.
"""

import numpy as np

from adapt_infinity.subset.samplers import Members, SamplerParams, Selected

DECIMALS = 6  # cosines are rounded to these, so that duplicates are equally near in spite of single precision


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """Scores are not used; among equally distant samples the one with the lowest sample_id is taken."""
    count = len(members.scores)
    selected, stratum = np.zeros(count, dtype=bool), np.full(count, -1)
    if budget >= count:
        return ~selected, stratum
    vectors = members.vectors()
    closest = np.round(-(vectors @ vectors.mean(axis=0)), DECIMALS)  # negative, so that the most central comes first
    for number in range(budget):
        taken = int(np.where(selected, np.inf, closest).argmin())
        selected[taken] = True
        cosines = np.round(vectors @ vectors[taken], DECIMALS)
        closest = cosines if number == 0 else np.maximum(closest, cosines)
    return selected, stratum

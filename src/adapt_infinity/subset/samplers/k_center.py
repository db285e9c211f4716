"""k-center: rows such that none is far from the nearest one taken (Gonzalez 1985; Sener & Savarese 2018,
arXiv:1708.00489).

Farthest first: the row most like the cluster's mean, then, again and again, the row least like those that are taken.
The greatest distance that is left is at most twice the best possible. Costs budget · n · dim.
"""

import numpy as np
from jaxtyping import Bool, Int

from adapt_infinity.subset.selecting import Members, SubsetParams

DECIMALS = 6  # of a cosine: copies tie in spite of single precision


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The scores are not looked at; of equally far rows the one with the lowest sample_id is taken."""
    count = len(members.scores)
    selected, stratum = np.zeros(count, dtype=bool), np.full(count, -1)
    if budget >= count:
        return ~selected, stratum
    vectors = members.vectors()
    closest = np.round(-(vectors @ vectors.mean(axis=0)), DECIMALS)  # so that the first is the most central
    for place in range(budget):
        taken = int(np.where(selected, np.inf, closest).argmin())
        selected[taken] = True
        cosines = np.round(vectors @ vectors[taken], DECIMALS)
        closest = cosines if place == 0 else np.maximum(closest, cosines)
    return selected, stratum

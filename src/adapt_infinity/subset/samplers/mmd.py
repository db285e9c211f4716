"""MMD: rows whose distribution is as near as can be to their cluster's (COINCIDE, Lee et al. 2024, arXiv:2406.10995).

Greedy: each row that is taken makes the squared maximum mean discrepancy between the rows taken and the whole cluster,
under a Gaussian kernel, as small as a single row can (kernel herding, Chen et al. 2010, arXiv:1203.3472). Costs
(n + budget) · n · dim.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity.subset.selecting import Members, SubsetParams

BLOCK = 2048  # rows whose kernels are in memory at a time
DECIMALS = 6  # of what is compared: copies tie in spite of single precision


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The scores are not looked at; of equally good rows the one with the lowest sample_id is taken."""
    count = len(members.scores)
    selected, stratum = np.zeros(count, dtype=bool), np.full(count, -1)
    if budget >= count:
        return ~selected, stratum
    vectors = members.vectors()
    means = np.concatenate(
        [kernel(vectors[start : start + BLOCK], vectors).mean(axis=1) for start in range(0, count, BLOCK)]
    )
    near = np.zeros(count)  # Σ over the rows taken of their kernel with each row
    for place in range(budget):
        taken_next = place + 1
        # MMD² with row x, up to what is the same for every x (k(x, x) = 1): 2 Σ k(x, s) / t² − 2 mean k(x, ·) / t
        gain = np.round(near / taken_next - means, DECIMALS)
        best = int(np.where(selected, np.inf, gain).argmin())
        selected[best] = True
        near += kernel(vectors[best : best + 1], vectors)[0]
    return selected, stratum


def kernel(some: Float[np.ndarray, "some dim"], vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "some n"]:
    """exp(−‖p − q‖² / 2) of unit rows."""
    return np.exp(some @ vectors.T - 1)

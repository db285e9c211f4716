"""Take samples whose distribution is as close as possible to the cluster's: smallest maximum mean discrepancy
(COINCIDE, Lee et al. 2024, arXiv:2406.10995).

The rule is greedy: each sample is the one that makes the squared maximum mean discrepancy between the samples taken and
the whole cluster smallest, under a Gaussian kernel (kernel herding, Chen et al. 2010, arXiv:1203.3472). Cost:
(n + budget) · n · dim.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.subset.samplers import Members, SamplerParams, Selected

BLOCK = 2048  # rows whose kernels are in memory at a time
DECIMALS = 6  # discrepancies are rounded to these, so that duplicates are equal in spite of single precision


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """Scores are not used; among equally good samples the one with the lowest sample_id is taken."""
    count = len(members.scores)
    selected, stratum = np.zeros(count, dtype=bool), np.full(count, -1)
    if budget >= count:
        return ~selected, stratum
    vectors = members.vectors()
    means = np.concatenate(
        [kernel(vectors[start : start + BLOCK], vectors).mean(axis=1) for start in range(0, count, BLOCK)]
    )
    kernel_sums = np.zeros(count)  # for each sample, the sum of its kernels with the samples taken
    for size in range(1, budget + 1):
        # MMD² after taking x, without terms that are equal for all x: (2 Σ_taken k(x, s)) / t² − 2 mean k(x, ·) / t,
        # multiplied by t / 2, where t is the new number of samples taken
        discrepancy = np.round(kernel_sums / size - means, DECIMALS)
        best = int(np.where(selected, np.inf, discrepancy).argmin())
        selected[best] = True
        kernel_sums += kernel(vectors[best : best + 1], vectors)[0]
    return selected, stratum


def kernel(some: Float[np.ndarray, "some dim"], vectors: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "some n"]:
    """The Gaussian kernel exp(−‖p − q‖² / 2) of vectors of length 1."""
    return np.exp(some @ vectors.T - 1)

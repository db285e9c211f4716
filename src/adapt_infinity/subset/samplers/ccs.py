"""CCS: coverage-centric stratified sampling (Zheng et al. 2023, arXiv:2210.15809), METHOD section 5.

The range of the scores is divided into strata of equal width, and the budget into equal shares of the strata,
from the emptiest to the fullest, so that rare degrees of difficulty are covered as well as frequent ones.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity.subset.budgets import equal_shares, shuffled, take
from adapt_infinity.subset.selecting import Members, SubsetParams

TAIL = 0.05  # METHOD section 5: the share that `cut_tails` cuts at either end


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Equal shares of the strata, uniform within a stratum; stratum -1 marks a row that was cut.

    `params.cut` cuts that share of the rows, the hardest, and `params.cut_tails` 5 % at either end. What is
    cut comes back last: only when the budget exceeds the rest, and then those nearest to the rest first (of
    equally near ones, the easier).
    """
    scores, sample_ids = members.scores, members.sample_ids
    ranked = np.lexsort((sample_ids, scores))
    low, high = _kept_range(len(scores), params)
    core = ranked[low:high]
    stratum = np.full(len(scores), -1)
    stratum[core] = _strata(scores[core], params.strata)

    selected = np.zeros(len(scores), dtype=bool)
    if budget <= len(core):
        in_core = np.zeros(len(scores), dtype=bool)
        in_core[core] = True
        queue = shuffled(sample_ids, rng)
        queue = queue[in_core[queue]]
        shares = equal_shares(np.bincount(stratum[core], minlength=params.strata), budget)
        taken = take(stratum[queue], shares, np.arange(len(queue)))
        selected[queue[taken]] = True
    else:
        places = np.arange(len(scores))
        outside = np.maximum(low - places, places - (high - 1)).clip(min=0)  # ranks away from the core, 0 in it
        selected[ranked[np.argsort(outside, kind="stable")[:budget]]] = True
    return selected, stratum


def _kept_range(n: int, params: SubsetParams) -> tuple[int, int]:
    """First and last (exclusive) rank that no cut takes; never empty unless n is 0."""
    tail = int(TAIL * n) if params.cut_tails else 0
    return tail, max(tail + 1, n - max(tail, int(params.cut * n)))


def _strata(scores: Float[np.ndarray, " n"], strata: int) -> Int[np.ndarray, " n"]:
    """Strata of equal width from the lowest to the highest score; all stratum 0 if these are equal."""
    if len(scores) == 0 or scores.max() == scores.min():
        return np.zeros(len(scores), dtype=np.int64)
    low, high = scores.min().astype(np.float64), scores.max().astype(np.float64)
    return np.minimum(((scores - low) / (high - low) * strata).astype(np.int64), strata - 1)

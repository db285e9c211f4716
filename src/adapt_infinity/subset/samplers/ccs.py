"""Coverage-centric stratified sampling, CCS (Zheng et al. 2023, arXiv:2210.15809; docs/method.md, section 5).

The range of the scores is divided into strata of equal width, and the budget into equal shares of the strata, from the
smallest to the largest stratum, so that rare levels of difficulty are covered as well as frequent ones.
"""

import numpy as np
from jaxtyping import Float, Int

from adapt_infinity.subset.budgets import equal_shares, shuffled, take
from adapt_infinity.subset.samplers import Members, SamplerParams, Selected

TAIL = 0.05  # share of the samples that `cut_tails` cuts at either end


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """Equal shares of the strata, uniform within a stratum; samples that were cut have stratum −1.

    `params.cut` cuts this share of the samples, the hardest ones; `params.cut_tails` cuts 5 % at either end. Cut
    samples are taken only if the budget exceeds the number of the others: then first those whose ranks are nearest to
    the rest (among equally near ones, the easier).
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
        ranks = np.arange(len(scores))
        outside = np.maximum(low - ranks, ranks - (high - 1)).clip(min=0)  # distance in ranks to the core, 0 inside
        selected[ranked[np.argsort(outside, kind="stable")[:budget]]] = True
    return selected, stratum


def _kept_range(n: int, params: SamplerParams) -> tuple[int, int]:
    """The ranks that are not cut, from the first to before the second; not empty unless n is 0."""
    tail = int(TAIL * n) if params.cut_tails else 0
    return tail, max(tail + 1, n - max(tail, int(params.cut * n)))


def _strata(scores: Float[np.ndarray, " n"], strata: int) -> Int[np.ndarray, " n"]:
    """The number of each score's stratum, in strata of equal width; 0 for all if all scores are equal."""
    if len(scores) == 0 or scores.max() == scores.min():
        return np.zeros(len(scores), dtype=np.int64)
    low, high = scores.min().astype(np.float64), scores.max().astype(np.float64)
    return np.minimum(((scores - low) / (high - low) * strata).astype(np.int64), strata - 1)

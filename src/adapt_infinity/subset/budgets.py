"""Budgets: how many rows each group may give, and which rows they are once each row has its place in a queue.

The rule is water-filling (METHOD section 5): every group gets the same level, the smallest group first; what
a group cannot use flows to the larger ones. Selection shares out the training budget with it, pruning the
pool size, and coverage-centric sampling the budget of one cluster over its strata.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

Rule = Callable[[Bool[np.ndarray, " groups"], int], Int[np.ndarray, " some"]]
"""some groups, a budget → the shares of these groups."""
NEGLIGIBLE = 1e-12  # of the largest weight: what is less counts as 0


def equal_shares(sizes: Int[np.ndarray, " groups"], budget: int) -> Int[np.ndarray, " groups"]:
    """Equal shares of `budget`; they add up to min(budget, all rows) exactly, and none exceeds its group.

    The same as visiting the groups from the emptiest to the fullest, each giving min(size, remaining //
    groups left): a group that fits the level is taken whole, and the remainder of the division goes one each
    to the largest groups (of equally large ones, to those listed first). A larger group never gets less.
    """
    _check(sizes, budget)
    shares = np.zeros(len(sizes), dtype=np.int64)
    if budget >= sizes.sum():
        return shares + sizes
    ascending = np.lexsort((-np.arange(len(sizes)), sizes))  # the last ones are the largest, listed first
    sorted_sizes = sizes[ascending].astype(np.int64)
    before = np.cumsum(sorted_sizes) - sorted_sizes
    left = len(sizes) - np.arange(len(sizes))
    levels = (budget - before) // left  # level of the water if all groups before this one are taken whole
    first = int(np.argmax(levels < sorted_sizes))  # the first group that does not fit its share
    level, remainder = divmod(int(budget - before[first]), int(left[first]))
    filled = np.minimum(sorted_sizes, level)
    filled[len(sizes) - remainder :] += 1
    shares[ascending] = filled
    return shares


def weighted_shares(
    sizes: Int[np.ndarray, " groups"], weights: Float[np.ndarray, " groups"], budget: int
) -> Int[np.ndarray, " groups"]:
    """Shares proportional to `weights`, with the sum and the bounds of `equal_shares`.

    A group whose proportional share exceeds its size is taken whole and the rest is shared anew among the
    others. What is lost by rounding down goes one each to the largest fractions (then to the larger group,
    then to the one listed first). A group of weight 0 gets what is left when all others are taken whole, by
    equal shares. Weights that are negative or not finite are a `ValueError`.
    """
    _check(sizes, budget)
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"weights of shares must be finite and at least 0, got {weights.tolist()}")
    shares = np.zeros(len(sizes), dtype=np.int64)
    if budget >= sizes.sum():
        return shares + sizes
    relative = weights / max(float(weights.max()), np.finfo(np.float64).tiny)
    relative = np.where(relative < NEGLIGIBLE, 0.0, relative)
    weighted = np.flatnonzero(relative > 0)
    if budget >= sizes[weighted].sum():  # every weighted group is taken whole
        shares[weighted] = sizes[weighted]
        rest = np.flatnonzero(relative == 0)
        shares[rest] = equal_shares(sizes[rest], budget - int(shares.sum()))
        return shares
    size, weight = sizes[weighted].astype(np.int64), relative[weighted].astype(np.float64)
    order = np.argsort(size / weight, kind="stable")  # the order in which rising water reaches their rims
    size, weight = size[order], weight[order]
    before = np.cumsum(size) - size
    weight_left = np.cumsum(weight[::-1])[::-1]
    overflows = (budget - before) * weight < size * weight_left
    first = int(np.argmax(overflows))
    assert overflows[first]
    share = (budget - before[first]) * weight / weight_left[first]
    filled = np.minimum(np.floor(share).astype(np.int64), size)
    queue = np.lexsort((weighted[order], -size, filled - share))  # the largest fractions first
    remainder = int(budget - filled.sum())
    assert remainder >= 0
    while remainder > 0:
        chosen = queue[filled[queue] < size[queue]][:remainder]
        filled[chosen] += 1
        remainder -= len(chosen)
    shares[weighted[order]] = filled
    return shares


def at_least(rule: Rule, least: Int[np.ndarray, " groups"], budget: int) -> Int[np.ndarray, " groups"]:
    """Shares by `rule`, none below `least`: a group that would get less gets that, and the others share the rest anew.

    `least` must add up to no more than `budget`.
    """
    free = np.ones(len(least), dtype=bool)
    shares = least.astype(np.int64)
    while True:
        shares[free] = rule(free, budget - int(least[~free].sum()))
        below = free & (shares < least)
        if not below.any():
            return shares
        free &= ~below
        shares[below] = least[below]


def take(
    groups: Int[np.ndarray, " n"], shares: Int[np.ndarray, " groups"], queue: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """True for the first `shares[g]` rows in the queue of every group g (0, 1, …); `queue` lists all rows."""
    arranged = queue[np.argsort(groups[queue], kind="stable")]
    sizes = np.bincount(groups, minlength=len(shares))
    places = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = np.zeros(len(groups), dtype=bool)
    taken[arranged] = places < np.repeat(shares, sizes)
    return taken


def shuffled(sample_ids: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Row numbers in a random order that depends on the ids, not on how the rows are listed."""
    return np.argsort(sample_ids, kind="stable")[rng.permutation(len(sample_ids))]


def _check(sizes: Int[np.ndarray, " groups"], budget: int) -> None:
    assert (sizes >= 0).all()
    if budget < 0:
        raise ValueError(f"a budget must be at least 0, got {budget}")

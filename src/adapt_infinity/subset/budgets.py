"""Budgets: how many rows each group gives, and which rows these are once the rows of each group are ordered.

The rule is water-filling (docs/method.md, section 5): groups get equal shares, from the smallest group on, and what a
group cannot use goes to the larger ones. Selection divides the training budget in this way over clusters, pruning the
pool size, and coverage-centric sampling the share of one cluster over its strata.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

Rule = Callable[[Bool[np.ndarray, " groups"], int], Int[np.ndarray, " some"]]
"""A rule for shares: which groups take part, and a budget → the shares of these groups."""
NEGLIGIBLE = 1e-12  # weights below this share of the largest one count as 0


def equal_shares(sizes: Int[np.ndarray, " groups"], budget: int) -> Int[np.ndarray, " groups"]:
    """Divide `budget` into equal shares, which add up to min(budget, all rows) and do not exceed the group sizes.

    The result is that of visiting the groups from the smallest to the largest, where each gives min(size, remaining
    budget // remaining groups). A group that is not larger than its share is taken whole. The remainder of the division
    goes to the largest groups, one row each (among equally large ones, to those listed first). A larger group never
    gets less than a smaller one. `ValueError` for a negative budget.
    """
    _check(sizes, budget)
    shares = np.zeros(len(sizes), dtype=np.int64)
    if budget >= sizes.sum():
        return shares + sizes
    ascending = np.lexsort((-np.arange(len(sizes)), sizes))  # ends with the largest; of equal ones the first listed
    sorted_sizes = sizes[ascending].astype(np.int64)
    before = np.cumsum(sorted_sizes) - sorted_sizes
    remaining = len(sizes) - np.arange(len(sizes))
    levels = (budget - before) // remaining  # equal share of the rest, if all smaller groups are taken whole
    first = int(np.argmax(levels < sorted_sizes))  # the first group that is larger than its share
    level, remainder = divmod(int(budget - before[first]), int(remaining[first]))
    filled = np.minimum(sorted_sizes, level)
    filled[len(sizes) - remainder :] += 1
    shares[ascending] = filled
    return shares


def weighted_shares(
    sizes: Int[np.ndarray, " groups"], weights: Float[np.ndarray, " groups"], budget: int
) -> Int[np.ndarray, " groups"]:
    """Divide `budget` in proportion to the weights, with the sum and the bounds of `equal_shares`.

    A group whose proportional share exceeds its size is taken whole, and the rest of the budget is divided over the
    others. Rows that are lost by rounding down go to the largest fractions, one row each (among equal ones to the
    larger group, then to the one listed first). Groups of weight 0 get equal shares of what is left when all others are
    taken whole. `ValueError` for a negative budget, and for weights that are negative or not finite.
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
    order = np.argsort(size / weight, kind="stable")  # the order in which groups are exhausted as the budget grows
    size, weight = size[order], weight[order]
    before = np.cumsum(size) - size
    weight_remaining = np.cumsum(weight[::-1])[::-1]
    exceeds = (budget - before) * weight < size * weight_remaining  # whether the group is larger than its share
    first = int(np.argmax(exceeds))
    assert exceeds[first]
    share = (budget - before[first]) * weight / weight_remaining[first]
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
    """Shares by `rule` of which none is below `least`, whose sum must not exceed `budget`.

    A group that would get less gets `least`, and the rule divides the rest over the other groups.
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
    """Whether each row is among the first `shares[g]` rows of its group g (0, 1, …); `queue` orders all rows."""
    by_group = queue[np.argsort(groups[queue], kind="stable")]
    sizes = np.bincount(groups, minlength=len(shares))
    positions = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = np.zeros(len(groups), dtype=bool)
    taken[by_group] = positions < np.repeat(shares, sizes)
    return taken


def shuffled(sample_ids: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Row numbers in a random order that depends on the ids, but not on the order of the rows."""
    return np.argsort(sample_ids, kind="stable")[rng.permutation(len(sample_ids))]


def _check(sizes: Int[np.ndarray, " groups"], budget: int) -> None:
    assert (sizes >= 0).all()
    if budget < 0:
        raise ValueError(f"a budget must be at least 0, got {budget}")

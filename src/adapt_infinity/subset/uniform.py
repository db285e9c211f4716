"""Random selection without scores: from the arrivals, from the whole pool, or in equal shares of groups."""

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.subset.budgets import at_least, equal_shares, shuffled, take
from adapt_infinity.subset.constraints import Mask, fill
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.table import unscored_table


def draw_arrivals(
    pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams
) -> pd.DataFrame:
    """Select `budget` random samples of those that arrived in this round, or all of them; see `uniform_subset`."""
    require_columns(pool_rows, "pool_rows", ("round",))
    arrived, one_group = pool_rows["round"].to_numpy() == round, np.zeros(len(pool_rows), dtype=np.int64)
    return uniform_subset(pool_rows, requests, arrived, one_group, subset_params, round)


def draw_uniformly(
    pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams, rounds: int = 1
) -> pd.DataFrame:
    """Select `rounds` · `budget` random samples of the pool; see `uniform_subset`."""
    one_group = np.zeros(len(pool_rows), dtype=np.int64)
    params = replace(subset_params, budget=rounds * subset_params.budget)
    return draw_balanced(pool_rows, one_group, round, requests, params)


def draw_balanced(
    pool_rows: pd.DataFrame,
    groups: Int[np.ndarray, " n"],
    round: int,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """Select `budget` random samples of the pool, in equal shares of the groups (0, 1, …); see `uniform_subset`."""
    all_rows = np.ones(len(pool_rows), dtype=bool)
    return uniform_subset(pool_rows, requests, all_rows, groups, subset_params, round)


def uniform_subset(
    pool_rows: pd.DataFrame,
    requests: pd.DataFrame,
    eligible: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    params: SubsetParams,
    round: int,
) -> pd.DataFrame:
    """Select min(budget, eligible) of the eligible samples: equal shares of the groups, uniform within each.

    pool_rows: sample_id, source, skill, round; requests: the table of `list_requests`; eligible and groups (0, 1, …):
    one entry per pool row. Of `params` only the budget, the seed and the constraints are used.

    Returns the table of `unscored_table` in the order of `pool_rows`. `ValueError` for a missing column, and for a
    token budget, because tokens are counted by the probe and these strategies run without one.
    """
    require_columns(pool_rows, "pool_rows", ("sample_id", "source", "skill", "round"))
    if params.token_budget:
        raise ValueError("subset.token_budget needs the probe's counts, but this strategy uses no probe: set it to 0")
    order = np.argsort(pool_rows["sample_id"].to_numpy(), kind="stable")
    rows, eligible, groups = pool_rows.iloc[order], eligible[order], groups[order]
    queue = shuffled(rows["sample_id"].to_numpy(), np.random.default_rng([params.seed, round]))

    def draw(open_rows: Mask, taken: Mask, count: int) -> Mask:
        size = int(groups.max(initial=-1)) + 1
        available, already = (np.bincount(groups[mask], minlength=size) for mask in (open_rows, taken))
        total = available + already
        shares = at_least(lambda some, budget: equal_shares(total[some], budget), already, count + int(already.sum()))
        waiting = queue[open_rows[queue]]
        drawn = np.zeros(len(rows), dtype=bool)
        drawn[waiting[take(groups[waiting], shares - already, np.arange(len(waiting)))]] = True
        return drawn

    selected = fill(rows, requests, params.budget, params, eligible, draw)
    table = unscored_table(rows, selected)
    return align_rows(table, pool_rows["sample_id"].to_numpy()).reset_index(drop=True)

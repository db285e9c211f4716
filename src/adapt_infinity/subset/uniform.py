"""Draws that judge no sample: uniform over arrivals, over the whole pool, or over groups of it in equal shares."""

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Int

from adapt_infinity.subset.selecting import SubsetParams, uniform_subset


def draw_arrivals(
    pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams
) -> pd.DataFrame:
    """`budget` of this round's arrivals, or all of them; of `subset_params` budget, seed and limits are read."""
    arrived, one_group = pool_rows["round"].to_numpy() == round, np.zeros(len(pool_rows), dtype=np.int64)
    return uniform_subset(pool_rows, requests, arrived, one_group, subset_params, round)


def draw_uniformly(
    pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams, rounds: int = 1
) -> pd.DataFrame:
    """`budget` rows of the pool, or those of so many rounds; of `subset_params` budget, seed and limits are read."""
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
    """`budget` rows, equally many of each group where there are; budget, seed and limits are read."""
    everyone = np.ones(len(pool_rows), dtype=bool)
    return uniform_subset(pool_rows, requests, everyone, groups, subset_params, round)

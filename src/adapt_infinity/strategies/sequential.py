"""Sequential: train on what has just arrived and nothing else. What is forgotten without any replay."""

import numpy as np
import pandas as pd

from adapt_infinity.pruning import PruningParams, drop_at_random
from adapt_infinity.selection.subset import SubsetParams, uniform_subset


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """`budget` of this round's arrivals, or all of them; of `subset_params` budget, seed and limits are read."""
    arrived, one_group = pool_rows["round"].to_numpy() == round, np.zeros(len(pool_rows), dtype=np.int64)
    return uniform_subset(pool_rows, requests, arrived, one_group, subset_params, round)


def keep(pool_rows: pd.DataFrame, round: int, must_keep: pd.DataFrame, pruning_params: PruningParams) -> pd.DataFrame:
    """Drop rows at random down to the pool size: none is read again, but all strategies store as many."""
    one_group = np.zeros(len(pool_rows), dtype=np.int64)
    return drop_at_random(pool_rows, one_group, must_keep, pruning_params.pool_size, [pruning_params.seed, round])

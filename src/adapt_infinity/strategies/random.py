"""Random replay: a uniform draw from all that is still kept. The baseline that selection must beat."""

import numpy as np
import pandas as pd

from adapt_infinity.pruning import PruningParams, drop_at_random
from adapt_infinity.selection.subset import SubsetParams, uniform_subset


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """`budget` rows of the cumulative pool; of `subset_params` budget, seed and limits are read."""
    everyone, one_group = np.ones(len(pool_rows), dtype=bool), np.zeros(len(pool_rows), dtype=np.int64)
    return uniform_subset(pool_rows, requests, everyone, one_group, subset_params, round)


def keep(pool_rows: pd.DataFrame, round: int, must_keep: pd.DataFrame, pruning_params: PruningParams) -> pd.DataFrame:
    """Drop rows at random down to the pool size; of `pruning_params` only pool_size and seed are read."""
    one_group = np.zeros(len(pool_rows), dtype=np.int64)
    return drop_at_random(pool_rows, one_group, must_keep, pruning_params.pool_size, [pruning_params.seed, round])

"""Skill-balanced: equal shares over the *true* skill labels. The oracle for anything that clusters."""

import pandas as pd

from adapt_infinity.pruning.removals import PruningParams, drop_at_random
from adapt_infinity.subset.selecting import SubsetParams
from adapt_infinity.subset.uniform import draw_balanced


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """`budget` rows, equally many of each skill where there are; budget, seed and limits are read."""
    skill = pd.factorize(pool_rows["skill"], sort=True)[0]
    return draw_balanced(pool_rows, skill, round, requests, subset_params)


def keep(pool_rows: pd.DataFrame, round: int, must_keep: pd.DataFrame, pruning_params: PruningParams) -> pd.DataFrame:
    """Drop rows down to the pool size, the most frequent skills first; only pool_size and seed are read."""
    skill = pd.factorize(pool_rows["skill"], sort=True)[0]
    return drop_at_random(pool_rows, skill, must_keep, pruning_params.pool_size, [pruning_params.seed, round])

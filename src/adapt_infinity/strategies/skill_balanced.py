"""Skill-balanced: equal shares for the *true* skills. This is a reference baseline for strategies that use clusters."""

import pandas as pd

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pruning.removals import PruningParams, drop_at_random
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.uniform import draw_balanced


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """Select `budget` random samples in equal shares of the skills."""
    require_columns(pool_rows, "pool_rows", ("skill",))
    skill = pd.factorize(pool_rows["skill"], sort=True)[0]
    return draw_balanced(pool_rows, skill, round, requests, subset_params)


def keep(pool_rows: pd.DataFrame, round: int, must_keep: pd.DataFrame, pruning_params: PruningParams) -> pd.DataFrame:
    """Remove random samples down to the pool size, most frequent skills first; only pool_size and seed count."""
    require_columns(pool_rows, "pool_rows", ("skill",))
    skill = pd.factorize(pool_rows["skill"], sort=True)[0]
    return drop_at_random(pool_rows, skill, must_keep, pruning_params.pool_size, [pruning_params.seed, round])

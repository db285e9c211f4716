"""Random replay: a uniform draw from all that is still kept. The baseline that selection must beat."""

import pandas as pd

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.selecting import SubsetParams
from adapt_infinity.subset.uniform import draw_uniformly

__all__ = ["keep", "select"]


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """`budget` rows of the cumulative pool; of `subset_params` budget, seed and limits are read."""
    return draw_uniformly(pool_rows, round, requests, subset_params)

"""Random replay: random samples of the whole pool. This is the baseline that other strategies must improve on."""

import pandas as pd

from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.uniform import draw_uniformly

__all__ = ["keep", "select"]


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """Select `budget` random samples of the pool."""
    return draw_uniformly(pool_rows, round, requests, subset_params)

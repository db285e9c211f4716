"""Multitask: every round trains genesis' adapter anew, on all that has arrived so far, with as many samples as the
rounds up to now had together.

A ruler: what joint training comes to, which no stream has. It keeps everything, whatever `pruning.pool_size` says.
"""

import pandas as pd

from adapt_infinity.pruning.removals import nothing_removed
from adapt_infinity.subset.selecting import SubsetParams
from adapt_infinity.subset.uniform import draw_uniformly

START = "genesis"
KEEPS_ALL = True


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """Round · budget rows of everything; of `subset_params` budget, seed and limits are read."""
    return draw_uniformly(pool_rows, round, requests, subset_params, rounds=round)


def keep() -> pd.DataFrame:
    """Nothing leaves."""
    return nothing_removed()

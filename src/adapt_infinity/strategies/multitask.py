"""Multitask: every round trains the adapter of round 0 anew, on samples of all arrivals so far, as many as all rounds
so far had together.

This is a reference baseline: joint training, which no stream of rounds allows. It keeps every sample, whatever
`pruning.pool_size` is.
"""

import pandas as pd

from adapt_infinity.pruning.removals import nothing_removed
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.uniform import draw_uniformly

START = "genesis"
KEEPS_ALL = True


def select(pool_rows: pd.DataFrame, round: int, requests: pd.DataFrame, subset_params: SubsetParams) -> pd.DataFrame:
    """Select round · budget random samples of the pool."""
    return draw_uniformly(pool_rows, round, requests, subset_params, rounds=round)


def keep() -> pd.DataFrame:
    """No sample leaves the pool."""
    return nothing_removed()

"""Tables with a row a sample, brought into one order."""

import numpy as np
import pandas as pd
from jaxtyping import Int


def aligned(table: pd.DataFrame, sample_ids: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """The rows of `table` for these samples, in this order; not copied where that is its order already."""
    mine = table["sample_id"].to_numpy()
    if len(mine) == len(sample_ids) and (mine == sample_ids).all():
        return table
    order = np.argsort(mine, kind="stable")
    places = np.searchsorted(mine, sample_ids, sorter=order).clip(max=max(len(mine) - 1, 0))
    rows = order[places] if len(mine) else places
    assert len(sample_ids) == 0 or (mine[rows] == sample_ids).all(), "every sample has a row"
    return table.iloc[rows]

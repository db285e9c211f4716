"""The table of the subset: one row per pool row, selected or not."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int


def subset_table(
    pool_rows: pd.DataFrame,
    cluster: Int[np.ndarray, " n"],
    expert: pd.Series,
    score: Float[np.ndarray, " n"],
    stratum: Int[np.ndarray, " n"],
    selected: Bool[np.ndarray, " n"],
) -> pd.DataFrame:
    """The subset's columns, in the order of `pool_rows`; all arguments have that order.

    sample_id, source, skill, round    as in `pool_rows`
    cluster                            −1: the strategy uses no clusters
    expert, score                      the score that ranks the cluster, and its value; "" and NaN: none
    stratum                            the sampler's stratum; −1: none
    selected                           whether the sample is trained on
    """
    table = pool_rows[["sample_id", "source", "skill", "round"]].reset_index(drop=True)
    return table.assign(
        cluster=cluster.astype(np.int32),
        expert=expert,
        score=score,
        stratum=stratum.astype(np.int32),
        selected=selected,
    )


def unscored_table(pool_rows: pd.DataFrame, selected: Bool[np.ndarray, " n"]) -> pd.DataFrame:
    """The table of a strategy that uses neither clusters nor scores."""
    none = np.full(len(pool_rows), -1)
    no_expert = pd.Series(np.full(len(pool_rows), ""), dtype="str")
    return subset_table(pool_rows, none, no_expert, np.full(len(pool_rows), np.nan), none, selected)

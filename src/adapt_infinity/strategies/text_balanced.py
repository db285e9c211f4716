"""Text-balanced: equal shares over clusters of the questions' words. Nearly free, since no model reads anything: it is
what clustering by gradients has to beat.
"""

import pandas as pd

from adapt_infinity.data.tables import align_rows
from adapt_infinity.pruning.removals import PruningParams, drop_at_random
from adapt_infinity.subset.selecting import SubsetParams
from adapt_infinity.subset.uniform import draw_balanced


def select(
    pool_rows: pd.DataFrame,
    question_clusters: pd.DataFrame,
    round: int,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """`budget` rows, equally many of each cluster where there are; budget, seed and limits are read."""
    cluster = _cluster(pool_rows, question_clusters)
    return draw_balanced(pool_rows, cluster.to_numpy(), round, requests, subset_params)


def keep(
    pool_rows: pd.DataFrame,
    question_clusters: pd.DataFrame,
    round: int,
    must_keep: pd.DataFrame,
    pruning_params: PruningParams,
) -> pd.DataFrame:
    """Drop rows down to the pool size, the largest clusters first; only pool_size and seed are read."""
    cluster, size = _cluster(pool_rows, question_clusters), pruning_params.pool_size
    return drop_at_random(pool_rows, cluster.to_numpy(), must_keep, size, [pruning_params.seed, round])


def _cluster(pool_rows: pd.DataFrame, question_clusters: pd.DataFrame) -> pd.Series:
    return align_rows(question_clusters, pool_rows["sample_id"].to_numpy())["cluster"].astype("int64")

"""Text-balanced: equal shares for clusters of the questions' words. No model is run, so it costs almost nothing, and it
is the baseline for clustering by gradients.
"""

import pandas as pd

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.pruning.removals import PruningParams, drop_at_random
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.uniform import draw_balanced


def select(
    pool_rows: pd.DataFrame,
    question_clusters: pd.DataFrame,
    round: int,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """Select `budget` random samples in equal shares of the clusters (question_clusters: sample_id, cluster)."""
    cluster = _cluster(pool_rows, question_clusters)
    return draw_balanced(pool_rows, cluster.to_numpy(), round, requests, subset_params)


def keep(
    pool_rows: pd.DataFrame,
    question_clusters: pd.DataFrame,
    round: int,
    must_keep: pd.DataFrame,
    pruning_params: PruningParams,
) -> pd.DataFrame:
    """Remove random samples down to the pool size, largest clusters first; only pool_size and seed count."""
    cluster, size = _cluster(pool_rows, question_clusters), pruning_params.pool_size
    return drop_at_random(pool_rows, cluster.to_numpy(), must_keep, size, [pruning_params.seed, round])


def _cluster(pool_rows: pd.DataFrame, question_clusters: pd.DataFrame) -> pd.Series:
    """The cluster of each pool row."""
    require_columns(question_clusters, "question_clusters", ("sample_id", "cluster"))
    return align_rows(question_clusters, pool_rows["sample_id"].to_numpy())["cluster"].astype("int64")

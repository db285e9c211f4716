"""Adapt-∞ (Maharana et al., arXiv:2410.10636): pseudo-skills share the budget, each judged by its own expert,
and the most redundant rows of each leave the pool.
"""

import pandas as pd

from adapt_infinity.clustering.features import Features
from adapt_infinity.frames import aligned
from adapt_infinity.pruning import PruningParams, prune_pool
from adapt_infinity.selection.subset import SubsetParams, select_subset


def select(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    features: Features,
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """`budget` rows: shares over clusters, then the sampler by the expert's score (METHOD section 5)."""
    return select_subset(pool_rows, clusters, scores, features, cluster_experts, requests, subset_params)


def keep(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    features: Features,
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    must_keep: pd.DataFrame,
    pruning_params: PruningParams,
) -> pd.DataFrame:
    """Rows that resemble a kept one of their cluster leave, down to the pool size (METHOD section 7)."""
    judged = aligned(scores, features.sample_ids)
    return prune_pool(pool_rows, clusters, features.embeddings, judged, cluster_experts, must_keep, pruning_params)

"""SemDeDup (Abbas et al. 2023, arXiv:2303.09540): what is left of the pool when, cluster by cluster of embeddings, the
rows that resemble another most have been taken out, down to the budget.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from adapt_infinity.pruning.removals import PruningParams, prune_redundant
from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.subset.selecting import SubsetParams, subset_table

PRESETS = {
    "probe": {"feature": "embedding", "image_grounding": False},  # a forward pass is all that it takes
    "pseudo_skills": {"space": "embeddings"},
    "selector_experts": {"experts": ["nll"], "choice": "fixed"},  # not looked at
    "pruning": {"rule": "semdedup"},
}

__all__ = ["PRESETS", "keep", "select"]


def select(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    features: Features,
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
    pruning_params: PruningParams,
) -> pd.DataFrame:
    """min(budget, pool) rows. Included samples stay; excluded ones, floors and caps are a `ValueError`."""
    if subset_params.floors or subset_params.caps or not requests["include"].all() or subset_params.token_budget:
        raise ValueError("subset.exclude, floors, caps and token_budget are not for semdedup: it takes the least alike")
    down_to = replace(pruning_params, pool_size=subset_params.budget, min_cluster=0)
    lost = prune_redundant(pool_rows, clusters, features, scores, cluster_experts, requests, down_to)
    left = ~pool_rows["sample_id"].isin(lost["sample_id"]).to_numpy()
    cluster = clusters.set_index("sample_id")["cluster"].reindex(pool_rows["sample_id"]).to_numpy()
    nobody = pd.Series(np.full(len(pool_rows), ""), dtype="str")
    nothing = np.full(len(pool_rows), np.nan)
    return subset_table(pool_rows, cluster, nobody, nothing, np.full(len(pool_rows), -1), left)

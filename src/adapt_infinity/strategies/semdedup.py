"""SemDeDup (Abbas et al. 2023, arXiv:2303.09540): clusters of embeddings, from which the samples that are most similar
to another one are removed until the budget is left.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pruning.removals import PruningParams, prune_redundant
from adapt_infinity.pruning.removals import prune_uniformly as keep
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.table import unscored_table

PRESETS = {
    "probe": {"feature": "embedding", "image_grounding": False},  # a forward pass is enough
    "pseudo_skills": {"space": "embeddings"},
    "selector_experts": {"experts": ["nll"], "choice": "fixed"},  # any score; it is not used
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
    """Select min(budget, pool) samples; included samples always.

    Returns the table of `subset_table`, without expert, score and stratum. `ValueError` for excluded samples, floors,
    caps and a token budget, which the method cannot respect, and for a missing column.
    """
    require_columns(clusters, "clusters", ("sample_id", "cluster"))
    require_columns(requests, "requests", ("sample_id", "include"))
    if subset_params.floors or subset_params.caps or not requests["include"].all() or subset_params.token_budget:
        raise ValueError(
            "subset.exclude, floors, caps and token_budget are not for semdedup, which takes the least similar samples"
        )
    down_to = replace(pruning_params, pool_size=subset_params.budget, min_cluster=0)
    removals = prune_redundant(pool_rows, clusters, features, scores, cluster_experts, requests, down_to)
    selected = ~pool_rows["sample_id"].isin(removals["sample_id"]).to_numpy()
    cluster = clusters.set_index("sample_id")["cluster"].reindex(pool_rows["sample_id"]).to_numpy()
    return unscored_table(pool_rows, selected).assign(cluster=cluster.astype(np.int32))

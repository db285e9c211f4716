"""Adapt-∞ LITE (Maharana et al., arXiv:2410.10636, section 3.5; METHOD section 8): prune first, then the same round on
what is left. The point is the price: only the shortlist is read with gradients.

What is pruned by has to be cheap. It is what samples show, ask and answer, read before the language model's first layer
(model/modality_embeddings.py): the vision tower runs, no decoder layer does. `probe.feature` and `probe.proxy` make the
second reading still cheaper.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from adapt_infinity.data.tables import align_rows
from adapt_infinity.pruning.removals import PruningParams, choose_removals_by_cluster, nothing_removed
from adapt_infinity.pruning.removals import prune_redundant as keep
from adapt_infinity.pseudo_skills.finding import cluster_rows
from adapt_infinity.pseudo_skills.matching import start_clusters
from adapt_infinity.pseudo_skills.params import PseudoSkillParams
from adapt_infinity.subset.selecting import select_subset as select

__all__ = ["ShortlistParams", "keep", "select", "shortlist"]


@dataclass(frozen=True, kw_only=True)
class ShortlistParams:
    """params:shortlist."""

    pool_size: int  # rows that are left to be read with gradients

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise ValueError(f"shortlist.pool_size must be at least 1, got {self.pool_size}")


def shortlist(
    joined_rows: pd.DataFrame,
    joined_parts: pd.DataFrame,
    must_keep: pd.DataFrame,
    pseudo_skills_params: PseudoSkillParams,
    pruning_params: PruningParams,
    shortlist_params: ShortlistParams,
) -> pd.DataFrame:
    """Rows that resemble another of their cluster leave for good, down to `shortlist.pool_size`, before anything is
    read.

    Clusters are `pseudo_skills.k` of the same vectors; the rule is `pruning.rule`, and of two alike the one that is
    farther from the centroid stays.
    """
    if len(joined_rows) <= shortlist_params.pool_size:
        return nothing_removed()
    ids = joined_rows["sample_id"].to_numpy()
    vectors = np.stack(align_rows(joined_parts, ids)["vector"].tolist())
    params = replace(pseudo_skills_params, space="embeddings", warm_start=False)
    clusters, _ = cluster_rows({"embeddings": vectors}, ids, params, start_clusters())
    down_to = replace(pruning_params, pool_size=shortlist_params.pool_size, ranking="centroid")
    nobody = pd.DataFrame({"cluster": [], "expert": [], "chosen": []})
    return choose_removals_by_cluster(
        joined_rows, clusters, vectors, pd.DataFrame({"sample_id": ids}), nobody, must_keep, down_to
    )

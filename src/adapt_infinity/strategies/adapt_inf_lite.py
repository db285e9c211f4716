"""Adapt-∞ LITE (Maharana et al., arXiv:2410.10636, section 3.5; docs/method.md, section 8): redundant samples are
removed first, and the round of Adapt-∞ runs on the rest. This is cheaper, because only the rest is read with gradients.

Redundancy is measured on cheap vectors: the embeddings of a sample's images, questions and answers before the language
model's first layer (model/modality_embeddings.py). They need the vision tower but no decoder layer. `probe.feature` and
`probe.proxy` make the reading of the rest still cheaper.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.parameters import PositiveInt, check
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

    SECTION: ClassVar[str] = "shortlist"

    pool_size: PositiveInt = 1200  # samples that remain, and are read with gradients

    def __post_init__(self) -> None:
        check(self)


def shortlist(
    joined_rows: pd.DataFrame,
    joined_parts: pd.DataFrame,
    must_keep: pd.DataFrame,
    pseudo_skills_params: PseudoSkillParams,
    pruning_params: PruningParams,
    shortlist_params: ShortlistParams,
) -> pd.DataFrame:
    """The samples that leave the joined pool before the probe, so that `shortlist.pool_size` remain.

    joined_rows: sample_id, source, skill, round; joined_parts: sample_id, vector (the sample's embedding).

    The vectors are clustered into `pseudo_skills.k` clusters, and samples that resemble another one of their cluster
    are removed by `pruning.rule`; of two similar samples the one farther from the centroid stays. Returns the table of
    `choose_removals_by_cluster`. `ValueError` for a missing column.
    """
    require_columns(joined_rows, "joined_rows", ("sample_id",))
    require_columns(joined_parts, "joined_parts", ("sample_id", "vector"))
    if len(joined_rows) <= shortlist_params.pool_size:
        return nothing_removed()
    ids = joined_rows["sample_id"].to_numpy()
    vectors = np.stack(align_rows(joined_parts, ids)["vector"].tolist())
    params = replace(pseudo_skills_params, space="embeddings", warm_start=False)
    clusters, _ = cluster_rows({"embeddings": vectors}, ids, params, start_clusters())
    down_to = replace(pruning_params, pool_size=shortlist_params.pool_size, ranking="centroid")
    no_experts = pd.DataFrame({"cluster": [], "expert": [], "chosen": []})
    return choose_removals_by_cluster(
        joined_rows, clusters, vectors, pd.DataFrame({"sample_id": ids}), no_experts, must_keep, down_to
    )

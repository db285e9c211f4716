"""Selection of the subset by clusters and scores (docs/method.md, section 5; Adapt-∞, arXiv:2410.10636)."""

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.subset.cluster_draw import ClusterDraw
from adapt_infinity.subset.constraints import Mask, fill
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.table import subset_table

log = logging.getLogger(__name__)


def select_subset(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    features: Features,
    cluster_experts: pd.DataFrame,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """Select min(budget, pool) samples: each cluster gets a share, which the sampler takes by the expert's score.

    pool_rows: sample_id, source, skill, round; clusters: sample_id, cluster, similarity; scores: sample_id and one
    column per score; cluster_experts: the table of `choose_experts`; requests: the table of `list_requests`. The tables
    and `features` have the same samples, in any order. Vectors of `features` are read only for rules and samplers that
    use them.

    Returns the table of `subset_table` in the order of `pool_rows`. Constraints and a token budget may leave fewer
    samples. `ValueError` for a missing column, for tables of different samples, for a score that is not finite (with
    its sample id), and for a budget that is too small for the constraints or for a single sample.
    """
    require_columns(pool_rows, "pool_rows", ("sample_id", "source", "skill", "round"))
    require_columns(clusters, "clusters", ("sample_id", "cluster", "similarity"))
    require_columns(scores, "scores", ("sample_id", *(["tokens"] if subset_params.token_budget else [])))
    sizes = {"clusters": len(clusters), "scores": len(scores), "features": len(features.sample_ids)}
    for name, size in sizes.items():
        if size != len(pool_rows):
            raise ValueError(f"pool_rows has {len(pool_rows)} samples, but {name} has {size}")
    order = np.argsort(pool_rows["sample_id"].to_numpy(), kind="stable")
    rows = align_rows(pool_rows, pool_rows["sample_id"].to_numpy()[order])
    ids = rows["sample_id"].to_numpy()
    scores = align_rows(scores, ids)
    draw = ClusterDraw.prepare(clusters, scores, features, cluster_experts, ids, subset_params)
    all_rows = np.ones(len(ids), dtype=bool)

    def select(budget: int) -> Mask:
        draw.stratum[:] = -1
        return fill(rows, requests, budget, subset_params, all_rows, draw)

    if subset_params.token_budget:
        selected = _within_token_budget(select, scores, subset_params)
    else:
        selected = select(subset_params.budget)
    table = subset_table(rows, draw.labels[draw.code], draw.expert, draw.score, draw.stratum, selected)
    return align_rows(table, pool_rows["sample_id"].to_numpy()).reset_index(drop=True)


def _within_token_budget(select: Callable[[int], Mask], scores: pd.DataFrame, params: SubsetParams) -> Mask:
    """The largest subset whose tokens are within the token budget, found by bisection of the sample budget.

    A larger budget does not always cost more tokens, because the subsets of two budgets need not be nested. The result
    keeps the token budget, and the next larger sample budget that was tried does not.
    """
    tokens = scores["tokens"].to_numpy(np.int64)
    whole = select(params.budget)
    if tokens[whole].sum() <= params.token_budget:
        return whole
    low, high = 0, int(whole.sum())
    while high - low > 1:
        middle = (low + high) // 2
        fits = tokens[select(middle)].sum() <= params.token_budget
        low, high = (middle, high) if fits else (low, middle)
    if low == 0:
        raise ValueError(f"subset.token_budget {params.token_budget} is too small for a single sample")
    log.info("subset.token_budget leaves %d of %d samples", low, params.budget)
    return select(low)

"""Removals: which rows leave the pool permanently, by similarity inside each cluster or at random.

By similarity (docs/method.md, section 7) after SemDeDup (Abbas et al. 2023, arXiv:2303.09540): every cluster keeps its
share of the pool size (protection.py: equal shares, so large clusters lose more) and loses the rows that resemble, by
the cosine of their embeddings, a row ranked before them. M_j is the highest cosine of row j to an earlier-ranked row;
which earlier rows count, and which row is removed first, is decided by the rule (rules/).

Samples that must be kept come first in the ranking and never leave. Ties are broken by sample_id, and cosines are
exact (cosines.py), so the result depends on the rows and the parameters alone: not on the order of the rows, and not on
block size, screening, threads or device.

A cluster of n rows costs n²/2 cosines for M and removed · kept cosines for the duplicates. These are coarse cosines
(bound_cascade.py), of which few are computed again exactly. Memory holds the cluster's rows in single precision,
O(block · n) cosines, and one shortlist per row.
"""

import logging
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int

from adapt_infinity.data.tables import align_rows, require_columns
from adapt_infinity.parameters import Device, NonNegativeInt, OneOf, PositiveInt, Seed, check
from adapt_infinity.pruning import rules
from adapt_infinity.pruning.bound_cascade import CASCADES, build_cascade, choose_device
from adapt_infinity.pruning.cosines import grid_rows
from adapt_infinity.pruning.nearest import Neighbours, SearchCounts
from adapt_infinity.pruning.protection import is_protected, protected_shares
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.selector_experts.expert_scores import expert_scores
from adapt_infinity.subset.budgets import shuffled, take

RANKINGS = ("centroid", "expert", "random")
SHORTLIST_SIZE = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PruningParams:
    """params:pruning."""

    SECTION: ClassVar[str] = "pruning"

    pool_size: PositiveInt = 2000  # highest number of rows kept
    min_cluster: NonNegativeInt = 0  # clusters of at most so many rows lose none while others can; 0 = off
    # samples that are never pruned: ids or references (pool/references.py)
    must_keep: list[int | str] = field(default_factory=list)
    rule: Annotated[str, OneOf(rules.names)] = "greedy"  # a file in pruning/rules
    # which rows are ranked first: centroid (farthest from it), expert (highest score) or random
    ranking: Annotated[str, OneOf(RANKINGS)] = "centroid"
    seed: Seed = 0
    screening: Annotated[str, OneOf(("auto", *CASCADES))] = "auto"  # the cascade of bounds: see bound_cascade.py
    device: Device = "auto"
    block: PositiveInt = 1024  # rows whose bounds are computed at a time

    def __post_init__(self) -> None:
        check(self)


def choose_removals_by_cluster(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    embeddings: Float[np.ndarray, "n hidden"],
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    must_keep: pd.DataFrame,
    params: PruningParams,
) -> pd.DataFrame:
    """One row per sample that leaves the pool, so that at most `pool_size` stay, sorted by sample_id.

    Inputs: `pool_rows` (sample_id, source), `clusters` (sample_id, cluster, similarity to the centroid), `scores`
    (sample_id, and the experts' columns when `ranking` is expert), each with one row per sample of the pool;
    `embeddings` has the rows of `scores`. `must_keep` has the column sample_id. `cluster_experts` (cluster, expert,
    chosen) is read when `ranking` is expert.

    Columns: sample_id, source, cluster, duplicate_of (the sample that it resembles, -1 if its cluster keeps no row),
    similarity (their cosine, NaN if its cluster keeps no row), reason. `ValueError` names a missing column, and the
    samples whose embedding or score is not finite.
    """
    require_columns(pool_rows, "pool_rows", ["sample_id", "source"])
    require_columns(clusters, "clusters", ["sample_id", "cluster", "similarity"])
    require_columns(scores, "scores", ["sample_id"])
    lengths = [len(table) for table in (pool_rows, clusters, scores, embeddings)]
    if len(set(lengths)) > 1:
        raise ValueError(f"pool_rows, clusters, scores and embeddings must have equally many rows, got {lengths}")
    device = choose_device(params.device)
    ids = np.sort(pool_rows["sample_id"].to_numpy())
    by_id = align_rows(clusters, ids)
    protected = is_protected(ids, must_keep)
    labels, code, sizes = np.unique(by_id["cluster"].to_numpy(), return_inverse=True, return_counts=True)
    required = np.bincount(code[protected], minlength=len(sizes))
    budgets = protected_shares(sizes, required, params.pool_size, params.min_cluster)
    row_of = np.argsort(scores["sample_id"].to_numpy(), kind="stable")

    rank_keys = _rank_keys(by_id, align_rows(scores, ids), cluster_experts, params)
    order = np.lexsort((ids, rank_keys, ~protected, code))
    removed = np.zeros(len(ids), dtype=bool)
    duplicate_of = np.full(len(ids), -1)
    similarity = np.full(len(ids), np.nan, dtype=np.float32)
    prune_cluster = rules.load(params.rule)
    counts = SearchCounts()
    for end, size, budget, first in zip(np.cumsum(sizes), sizes, budgets, required, strict=True):
        if budget == size:
            continue
        members = order[end - size : end]
        removed[members] = True
        if budget == 0:
            continue
        rows = grid_rows(embeddings, row_of[members], ids[members])
        cascade = build_cascade(rows, params.screening, device)
        neighbours = Neighbours(rows, cascade, params.block, SHORTLIST_SIZE, counts)
        kept, duplicates, cosine = prune_cluster(neighbours, int(budget), int(first))
        removed[members[kept]] = False
        leaving = members[~kept]
        duplicate_of[leaving] = np.where(duplicates >= 0, ids[members[duplicates]], -1)
        similarity[leaving] = cosine
    if counts.lookups:
        log.info(counts.summary())

    why = np.array(["its cluster keeps no row", f"redundant ({params.rule})"], dtype=object)
    return _table(
        ids[removed],
        align_rows(pool_rows, ids)["source"].to_numpy()[removed],
        labels[code[removed]],
        duplicate_of[removed],
        similarity[removed],
        why[(duplicate_of[removed] >= 0).astype(np.int64)],
    )


def prune_redundant(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    features: Features,
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    must_keep: pd.DataFrame,
    pruning_params: PruningParams,
) -> pd.DataFrame:
    """Removals of rows that resemble another row of their cluster, down to the pool size (docs/method.md, section 7).

    The table of `choose_removals_by_cluster`; `features` gives the embeddings.
    """
    aligned = align_rows(scores, features.sample_ids)
    embeddings = features.embeddings
    return choose_removals_by_cluster(
        pool_rows, clusters, embeddings, aligned, cluster_experts, must_keep, pruning_params
    )


def prune_uniformly(
    pool_rows: pd.DataFrame, round: int, must_keep: pd.DataFrame, pruning_params: PruningParams
) -> pd.DataFrame:
    """Removals drawn at random from the whole pool, down to the pool size; of `pruning_params` only pool_size and seed
    are read. The table of `drop_at_random`.
    """
    one_group = np.zeros(len(pool_rows), dtype=np.int64)
    return drop_at_random(pool_rows, one_group, must_keep, pruning_params.pool_size, [pruning_params.seed, round])


def nothing_removed() -> pd.DataFrame:
    """A table of removals without any row."""
    none, text = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object)
    return _table(none, text, none, none, np.zeros(0, np.float32), text)


def drop_at_random(
    pool_rows: pd.DataFrame, groups: Int[np.ndarray, " n"], must_keep: pd.DataFrame, pool_size: int, seeds: list[int]
) -> pd.DataFrame:
    """Removals for strategies that compare no rows: equal shares of the pool over `groups`, uniform inside each group.

    `pool_rows` has the columns sample_id and source; `groups` has one entry per row, numbers from 0. The rows that
    `must_keep` (column sample_id) lists stay; a group with many of them keeps more than its share. The same seeds give
    the same rows. The columns are those of `choose_removals_by_cluster`; cluster and duplicate_of are -1 and similarity
    is NaN, because no rows were compared. `ValueError` names a missing column.
    """
    require_columns(pool_rows, "pool_rows", ["sample_id", "source"])
    ids = pool_rows["sample_id"].to_numpy()
    protected, sizes = is_protected(ids, must_keep), np.bincount(groups)
    shares = protected_shares(sizes, np.bincount(groups[protected], minlength=len(sizes)), pool_size)
    queue = shuffled(ids, np.random.default_rng(seeds))
    kept = take(groups, shares, queue[np.argsort(~protected[queue], kind="stable")])
    removed = pool_rows.loc[~kept, ["sample_id", "source"]].sort_values("sample_id")
    none = np.full(len(removed), -1)
    return _table(
        removed["sample_id"].to_numpy(),
        removed["source"].to_numpy(),
        none,
        none,
        np.full(len(removed), np.nan, dtype=np.float32),
        np.full(len(removed), "drawn at random", dtype=object),
    )


def _rank_keys(
    clusters: pd.DataFrame, scores: pd.DataFrame, cluster_experts: pd.DataFrame, params: PruningParams
) -> Float[np.ndarray, " n"]:
    """One number per row, by ascending sample_id: inside a cluster, the row with the lower number is ranked first."""
    if params.ranking == "centroid":
        return clusters["similarity"].to_numpy(dtype=np.float64)
    if params.ranking == "random":
        return np.random.default_rng([params.seed]).random(len(clusters))
    return -expert_scores(clusters, cluster_experts, scores)[2]


def _table(
    sample_ids: Int[np.ndarray, " removed"],
    source: np.ndarray,
    cluster: Int[np.ndarray, " removed"],
    duplicate_of: Int[np.ndarray, " removed"],
    similarity: Float32[np.ndarray, " removed"],
    reason: np.ndarray,
) -> pd.DataFrame:
    """A table of removals, with the same columns and types whatever the way of choosing them."""
    return pd.DataFrame(
        {
            "sample_id": sample_ids.astype(np.int64),
            "source": pd.Series(source, dtype="str"),
            "cluster": cluster.astype(np.int32),
            "duplicate_of": duplicate_of.astype(np.int64),
            "similarity": similarity,
            "reason": pd.Series(reason, dtype="str"),
        }
    )

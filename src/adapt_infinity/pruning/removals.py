"""Cluster-wise permanent pruning (METHOD section 7), after SemDeDup (Abbas et al. 2023, arXiv:2303.09540).

Every cluster keeps its share of the pool size (protection.py: equal shares, so large clusters lose more), and loses
the rows that resemble, by the cosine of their embeddings, a row ranked before them. M_j is the highest cosine of row j
to an earlier-ranked row; what counts as such, and who goes first, is the rule's (rules/).

Samples that must be kept come first in the ranking and never leave. Ties are broken by sample_id, and cosines are
exact (cosines.py), so the outcome depends on the rows and the parameters alone: not on the order in which rows are
listed, nor on block size, screening, threads or device.

A cluster of n rows costs n²/2 cosines for M and lost · kept for the twins, coarse ones (screening.py), of which few are
computed again exactly. In memory: its rows in single precision, O(block · n) cosines, and a shortlist a row.
"""

import logging
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int

from adapt_infinity.data.tables import align_rows
from adapt_infinity.pruning import rules
from adapt_infinity.pruning.bound_cascade import LADDERS, choose_device, ladder
from adapt_infinity.pruning.cosines import grid_rows
from adapt_infinity.pruning.nearest import Neighbours, Tally
from adapt_infinity.pruning.protection import is_protected, protected_shares
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.selector_experts.expert_scores import expert_scores
from adapt_infinity.subset.budgets import shuffled, take

RANKINGS = ("centroid", "expert", "random")
SCREENINGS = ("auto", *LADDERS)
NEAREST = 16  # rows in a shortlist

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PruningParams:
    """params:pruning."""

    pool_size: int  # rows kept at most
    rule: str  # a file in pruning/rules
    ranking: str  # who comes first: centroid (farthest from it), expert (highest score) or random
    min_cluster: int  # a cluster of at most so many rows loses none while others have rows to lose; 0 = off
    must_keep: list[int | str]  # samples that are never pruned: naming.py
    screening: str  # how candidates are found: auto, none, single, half or projection
    device: str  # auto, cpu, cuda, cuda:1, …
    block: int  # rows whose cosines are computed at a time
    seed: int

    def __post_init__(self) -> None:
        for key, least in (("pool_size", 1), ("min_cluster", 0), ("block", 1), ("seed", 0)):
            if not isinstance(getattr(self, key), int) or getattr(self, key) < least:
                raise ValueError(f"pruning.{key} must be a whole number from {least}, got {getattr(self, key)!r}")
        for key, known in (("rule", rules.names()), ("ranking", RANKINGS), ("screening", SCREENINGS)):
            if getattr(self, key) not in known:
                raise ValueError(f"pruning.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(self.device)):
            raise ValueError(f"pruning.device must be auto, cpu, cuda or cuda:<number>, got {self.device!r}")
        if not isinstance(self.must_keep, list):
            raise ValueError(f"pruning.must_keep must be a list of samples, got {self.must_keep!r}")


def prune_pool(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    embeddings: Float[np.ndarray, "n hidden"],
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    must_keep: pd.DataFrame,
    params: PruningParams,
) -> pd.DataFrame:
    """The rows that leave the pool for good, so that at most `pool_size` stay; none if it is not larger.

    `embeddings` are rows in the order of `scores` (need not be unit; may be a memmap, of which one cluster is read at
    a time). `must_keep` names rows that stay (see protection.py); `params.must_keep` is not read again. Columns:
    sample_id, source, cluster, duplicate_of and similarity (the row it resembles and their cosine; -1 and NaN where its
    cluster keeps no row at all), reason. An embedding that is not finite is a `ValueError` that names the sample.
    """
    assert len(pool_rows) == len(clusters) == len(scores) == len(embeddings)
    device = choose_device(params.device)
    ids = np.sort(pool_rows["sample_id"].to_numpy())
    known = align_rows(clusters, ids)
    protected = is_protected(ids, must_keep)
    labels, code, sizes = np.unique(known["cluster"].to_numpy(), return_inverse=True, return_counts=True)
    must = np.bincount(code[protected], minlength=len(sizes))
    budgets = protected_shares(sizes, must, params.pool_size, params.min_cluster)
    row_of = np.argsort(scores["sample_id"].to_numpy(), kind="stable")

    rank_keys = _rank_keys(known, align_rows(scores, ids), cluster_experts, params)
    order = np.lexsort((ids, rank_keys, ~protected, code))
    removed = np.zeros(len(ids), dtype=bool)
    duplicate_of = np.full(len(ids), -1)
    similarity = np.full(len(ids), np.nan, dtype=np.float32)
    thin_out = rules.load(params.rule)
    tally = Tally()
    for end, size, budget, first in zip(np.cumsum(sizes), sizes, budgets, must, strict=True):
        if budget == size:
            continue
        members = order[end - size : end]
        removed[members] = True
        if budget == 0:
            continue
        rows = grid_rows(embeddings, row_of[members], ids[members])
        neighbours = Neighbours(rows, ladder(rows, params.screening, device), params.block, NEAREST, tally)
        kept, twin, cosine = thin_out(neighbours, int(budget), int(first))
        removed[members[kept]] = False
        lost = members[~kept]
        duplicate_of[lost] = np.where(twin >= 0, ids[members[twin]], -1)
        similarity[lost] = cosine
    if tally.looked_up:
        log.info(tally.told())

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
    """Rows that resemble a kept one of their cluster leave, down to the pool size (METHOD section 7)."""
    judged = align_rows(scores, features.sample_ids)
    return prune_pool(pool_rows, clusters, features.embeddings, judged, cluster_experts, must_keep, pruning_params)


def prune_uniformly(
    pool_rows: pd.DataFrame, round: int, must_keep: pd.DataFrame, pruning_params: PruningParams
) -> pd.DataFrame:
    """Rows leave at random, down to the pool size; of `pruning_params` only pool_size and seed are read."""
    one_group = np.zeros(len(pool_rows), dtype=np.int64)
    return drop_at_random(pool_rows, one_group, must_keep, pruning_params.pool_size, [pruning_params.seed, round])


def nothing_removed() -> pd.DataFrame:
    """The table of removals without a row."""
    nobody = np.zeros(0, dtype=np.int64)
    return _table(nobody, np.zeros(0, dtype=object), nobody, nobody, np.zeros(0, np.float32), np.zeros(0, dtype=object))


def drop_at_random(
    pool_rows: pd.DataFrame, groups: Int[np.ndarray, " n"], must_keep: pd.DataFrame, pool_size: int, seeds: list[int]
) -> pd.DataFrame:
    """Removals of strategies that compare no rows: equal shares of the pool over `groups`, uniform in each.

    The rows that `must_keep` names stay; a group with many of them keeps more than its share. The table of
    `prune_pool`: cluster and duplicate_of are -1, similarity is NaN because there is none.
    """
    ids = pool_rows["sample_id"].to_numpy()
    protected, sizes = is_protected(ids, must_keep), np.bincount(groups)
    shares = protected_shares(sizes, np.bincount(groups[protected], minlength=len(sizes)), pool_size)
    queue = shuffled(ids, np.random.default_rng(seeds))
    kept = take(groups, shares, queue[np.argsort(~protected[queue], kind="stable")])
    lost = pool_rows.loc[~kept, ["sample_id", "source"]].sort_values("sample_id")
    nothing = np.full(len(lost), -1)
    return _table(
        lost["sample_id"].to_numpy(),
        lost["source"].to_numpy(),
        nothing,
        nothing,
        np.full(len(lost), np.nan, dtype=np.float32),
        np.full(len(lost), "drawn at random", dtype=object),
    )


def _rank_keys(
    known: pd.DataFrame, scores: pd.DataFrame, cluster_experts: pd.DataFrame, params: PruningParams
) -> Float[np.ndarray, " n"]:
    """A number for each row, by ascending sample_id: in a cluster, the lower one is ranked before."""
    if params.ranking == "centroid":
        return known["similarity"].to_numpy(dtype=np.float64)
    if params.ranking == "random":
        return np.random.default_rng([params.seed]).random(len(known))
    return -expert_scores(known, cluster_experts, scores)[2]


def _table(
    sample_ids: Int[np.ndarray, " lost"],
    source: np.ndarray,
    cluster: Int[np.ndarray, " lost"],
    duplicate_of: Int[np.ndarray, " lost"],
    similarity: Float32[np.ndarray, " lost"],
    reason: np.ndarray,
) -> pd.DataFrame:
    """The contract's columns, by sample_id."""
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

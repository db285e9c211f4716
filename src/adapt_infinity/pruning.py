"""Cluster-wise permanent pruning (METHOD section 7), after SemDeDup (Abbas et al. 2023, arXiv:2303.09540).

Every cluster keeps its share of the pool size (`budgets.equal_shares`, so large clusters lose more), and
loses the rows that resemble, by the cosine of their embeddings, a row ranked before them. M_j is the highest
cosine of row j to an earlier-ranked row:

`semdedup`: M_j over all earlier-ranked rows; the rows with the lowest M_j are kept. In a chain a ~ b ~ c both
b and c count as duplicates, although c resembles only a row that is itself lost.

`greedy`: M_j over the earlier-ranked rows that are *still kept*. The row with the highest M_j is removed (of
equal ones, the row ranked last), the M of those that resembled it is taken anew, and so on until the keep
budget is met. So the budget is met exactly without a threshold to be found, of any pair the later-ranked row
goes, the first-ranked row stays, and none goes for resembling one already gone. (Adding the row farthest from
those kept, step by step, would be as exact, but the ranking would then decide nothing beyond the first row.)
A removed row's `duplicate_of` is the most similar of the rows kept in the end.

Rows are visited in rank order, ties broken by sample_id, so the order in which they are listed does not
matter; cosines are rounded to six decimals, so that copies tie in spite of single precision.

A cluster of n rows costs n²/2 cosines for M and n_lost · n_kept for the twins, by blocks: in memory, its rows
in float32, O(block · n) cosines, and a short list of the nearest earlier rows of each. `greedy` takes M from
that list, and computes cosines anew only for a row whose whole list is gone.
"""

import heapq
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int

from adapt_infinity.budgets import equal_shares, shuffled, take

RULES = ("greedy", "semdedup")
RANKINGS = ("centroid", "expert", "random")
NEAREST = 16  # earlier rows remembered for each row
DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class PruningParams:
    """params:pruning."""

    pool_size: int  # rows kept at most
    rule: str  # greedy or semdedup
    ranking: str  # who comes first: centroid (farthest from it), expert (highest score) or random
    block: int  # rows whose cosines are computed at a time
    seed: int

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise ValueError(f"pruning.pool_size must be at least 1, got {self.pool_size}")
        if self.rule not in RULES:
            raise ValueError(f"pruning.rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        if self.ranking not in RANKINGS:
            raise ValueError(f"pruning.ranking must be one of {', '.join(RANKINGS)}, got {self.ranking!r}")
        if self.block < 1:
            raise ValueError(f"pruning.block must be at least 1, got {self.block}")
        if self.seed < 0:
            raise ValueError(f"pruning.seed must be at least 0, got {self.seed}")


def prune_pool(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    embeddings: Float[np.ndarray, "n hidden"],
    scores: pd.DataFrame,
    cluster_experts: pd.DataFrame,
    params: PruningParams,
) -> pd.DataFrame:
    """The rows that leave the pool for good, so that at most `pool_size` stay; none if it is not larger.

    `embeddings` are rows in the order of `scores` (need not be unit; may be a memmap). Columns: sample_id,
    source, cluster, duplicate_of and similarity (the row it resembles and their cosine; -1 and NaN where its
    cluster keeps no row at all), reason. An embedding that is not finite is a `ValueError` that names the
    sample.
    """
    assert len(pool_rows) == len(clusters) == len(scores) == len(embeddings)
    ids = np.sort(pool_rows["sample_id"].to_numpy())
    known = clusters.set_index("sample_id").loc[ids]
    labels, code, sizes = np.unique(known["cluster"].to_numpy(), return_inverse=True, return_counts=True)
    budgets = equal_shares(sizes, params.pool_size)
    row_of = pd.Series(np.arange(len(scores)), scores["sample_id"].to_numpy()).loc[ids].to_numpy()

    order = np.lexsort((ids, _rank_keys(known, scores, cluster_experts, params), code))
    removed = np.zeros(len(ids), dtype=bool)
    duplicate_of = np.full(len(ids), -1)
    similarity = np.full(len(ids), np.nan, dtype=np.float32)
    for end, size, budget in zip(np.cumsum(sizes), sizes, budgets, strict=True):
        if budget == size:
            continue
        members = order[end - size : end]
        removed[members] = True
        if budget == 0:
            continue
        unit = _unit_rows(embeddings, row_of[members], ids[members])
        kept, twin, cosine = _thin_out(unit, int(budget), params)
        removed[members[kept]] = False
        lost = members[~kept]
        duplicate_of[lost] = ids[members[twin]]
        similarity[lost] = cosine

    why = np.array(["its cluster keeps no row", f"redundant ({params.rule})"], dtype=object)
    source = pool_rows.set_index("sample_id")["source"].loc[ids[removed]].to_numpy()
    return _table(
        ids[removed],
        source,
        labels[code[removed]],
        duplicate_of[removed],
        similarity[removed],
        why[(duplicate_of[removed] >= 0).astype(np.int64)],
    )


def drop_at_random(
    pool_rows: pd.DataFrame, groups: Int[np.ndarray, " n"], pool_size: int, seeds: list[int]
) -> pd.DataFrame:
    """Removals of strategies that compare no rows: equal shares of the pool over `groups`, uniform in each.

    The table of `prune_pool`: cluster and duplicate_of are -1, similarity is NaN because there is none.
    """
    ids = pool_rows["sample_id"].to_numpy()
    shares = equal_shares(np.bincount(groups), pool_size)
    kept = take(groups, shares, shuffled(ids, np.random.default_rng(seeds)))
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
    """A number for each row (ids ascending): in a cluster, the lower one is ranked before."""
    ids = known.index.to_numpy()
    if params.ranking == "centroid":
        return known["similarity"].to_numpy(dtype=np.float64)
    if params.ranking == "random":
        return np.random.default_rng([params.seed]).random(len(ids))
    chosen = cluster_experts[cluster_experts["chosen"]].set_index("cluster")["expert"]
    experts, expert_of = np.unique(chosen.loc[known["cluster"]].to_numpy(dtype=object), return_inverse=True)
    columns = scores.set_index("sample_id").loc[ids, list(experts)].to_numpy(dtype=np.float64)
    score = columns[np.arange(len(ids)), expert_of]
    if not np.isfinite(score).all():
        raise ValueError(f"expert score is not finite for samples {ids[~np.isfinite(score)][:5].tolist()}")
    return -score


def _unit_rows(
    embeddings: Float[np.ndarray, "n hidden"],
    rows: Int[np.ndarray, " members"],
    sample_ids: Int[np.ndarray, " members"],
) -> Float32[np.ndarray, "members hidden"]:
    """The embeddings of one cluster's rows, divided by their lengths; a row of zeros stays one."""
    unit = embeddings[rows].astype(np.float32)
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    bad = sample_ids[~np.isfinite(lengths[:, 0])]
    if len(bad):
        raise ValueError(f"embedding is not finite for {len(bad)} samples, first {sorted(bad.tolist())[:5]}")
    unit /= np.where(lengths == 0, 1, lengths)
    return unit


def _thin_out(
    unit: Float32[np.ndarray, "members hidden"], budget: int, params: PruningParams
) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " lost"], Float32[np.ndarray, " lost"]]:
    """For one cluster's rows in rank order: which are kept, and each lost one's twin and their cosine."""
    everyone = np.arange(len(unit))
    if params.rule == "semdedup":
        nearest, cosines = _nearest_before(unit, everyone, everyone, 1, params.block)
        kept = np.zeros(len(unit), dtype=bool)
        kept[np.lexsort((everyone, cosines[:, 0]))[:budget]] = True
        return kept, nearest[~kept, 0], cosines[~kept, 0]
    kept = _remove_greedily(unit, budget, params.block)
    twin, cosine = _nearest_kept(unit, kept, params.block)
    return kept, twin, cosine


def _remove_greedily(
    unit: Float32[np.ndarray, "members hidden"], budget: int, block: int
) -> Bool[np.ndarray, " members"]:
    """Remove the row with the highest M among the kept until `budget` are left.

    M only falls as rows are removed, so the top of a heap with old values is right as soon as its own value
    is fresh.
    """
    everyone = np.arange(len(unit))
    kept = np.ones(len(unit), dtype=bool)
    nearest, cosines = _nearest_before(unit, everyone, everyone, NEAREST, block)
    heap = [(-float(cosine), -row) for row, cosine in enumerate(cosines[:, 0])]
    heapq.heapify(heap)
    for _ in range(len(unit) - budget):
        while True:
            value, row = -heap[0][0], -heap[0][1]
            fresh = _first_kept(nearest[row], kept)
            if fresh is None:  # all the neighbours it remembers are gone, and there may be others
                stale = np.flatnonzero(kept & ~(kept[nearest] | (nearest < 0)).any(axis=1))
                stale = np.unique(np.append(stale[np.argsort(-cosines[stale, -1], kind="stable")][: block - 1], row))
                nearest[stale], cosines[stale] = _nearest_before(
                    unit, stale, np.flatnonzero(kept), nearest.shape[1], block
                )
                fresh = 0
            current = float(cosines[row, fresh])
            if current == value:
                break
            heapq.heapreplace(heap, (-current, -row))
        heapq.heappop(heap)
        kept[row] = False
    return kept


def _first_kept(nearest: Int[np.ndarray, " nearest"], kept: Bool[np.ndarray, " members"]) -> int | None:
    """Where in a row's list its most similar kept row is, or where the list ends; None if all are gone."""
    for place, neighbour in enumerate(nearest.tolist()):
        if neighbour < 0 or kept[neighbour]:
            return place
    return None


def _nearest_before(
    unit: Float32[np.ndarray, "members hidden"],
    rows: Int[np.ndarray, " rows"],
    candidates: Int[np.ndarray, " candidates"],
    count: int,
    block: int,
) -> tuple[Int[np.ndarray, "rows nearest"], Float32[np.ndarray, "rows nearest"]]:
    """For each of `rows` its most similar candidates among those ranked before it, the nearest first.

    Both are ascending. Lists are filled up with -1 and -inf; equally similar ones in any order.
    """
    nearest = np.full((len(rows), count), -1)
    cosines = np.full((len(rows), count), -np.inf, dtype=np.float32)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        before = candidates[: np.searchsorted(candidates, part[-1])]
        if len(before) == 0:
            continue
        all_before = before[-1] + 1 == len(before)
        table = unit[part] @ (unit[: len(before)] if all_before else unit[before]).T
        table.round(DECIMALS, out=table)
        table[before[None, :] >= part[:, None]] = -np.inf
        width = min(count, len(before))
        best = _highest(table, width)
        found = np.take_along_axis(table, best, axis=1)
        nearest[start : start + block, :width] = np.where(np.isfinite(found), before[best], -1)
        cosines[start : start + block, :width] = found
    return nearest, cosines


def _highest(table: Float32[np.ndarray, "rows columns"], count: int) -> Int[np.ndarray, "rows count"]:
    """The columns of each row's `count` highest values, the highest first."""
    if count == 1:
        return table.argmax(axis=1)[:, None]
    best = np.argpartition(table, table.shape[1] - count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(table, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def _nearest_kept(
    unit: Float32[np.ndarray, "members hidden"], kept: Bool[np.ndarray, " members"], block: int
) -> tuple[Int[np.ndarray, " lost"], Float32[np.ndarray, " lost"]]:
    """For each lost row the most similar kept one (of equals the first-ranked) and their cosine."""
    survivors, lost = np.flatnonzero(kept), np.flatnonzero(~kept)
    remaining = unit[survivors]
    twin, cosine = np.zeros(len(lost), dtype=np.int64), np.zeros(len(lost), dtype=np.float32)
    for start in range(0, len(lost), block):
        table = unit[lost[start : start + block]] @ remaining.T
        table.round(DECIMALS, out=table)
        best = table.argmax(axis=1)
        twin[start : start + block] = survivors[best]
        cosine[start : start + block] = table[np.arange(len(best)), best]
    return twin, cosine


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

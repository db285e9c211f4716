"""The subset of a round: which pool rows are trained on, and why each was or was not (METHOD section 5).

Every pool row appears in the table with the cluster it belongs to, the expert that judged it, the score and
stratum it was given, and whether it was selected.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from adapt_infinity import rooms
from adapt_infinity.budgets import equal_shares, shuffled, take, weighted_shares

SAMPLERS = "adapt_infinity.selection.samplers"
SHARES = ("equal", "density", "score_std")
BLOCK = 16_384  # gradient rows read at a time


@dataclass(frozen=True, kw_only=True)
class SubsetParams:
    """params:subset."""

    budget: int  # samples per round
    shares: str  # of the budget over clusters: equal, density or score_std
    sampler: str  # inside a cluster: a file of selection/samplers
    strata: int  # of equal width (ccs)
    cut: float  # share of each cluster's hardest rows that comes back last (ccs)
    cut_tails: bool  # the same for 5 % at either end (ccs)
    seed: int

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ValueError(f"subset.budget must be at least 1, got {self.budget}")
        if self.shares not in SHARES:
            raise ValueError(f"subset.shares must be one of {', '.join(SHARES)}, got {self.shares!r}")
        known = rooms.names(SAMPLERS)
        if self.sampler not in known:
            raise ValueError(f"subset.sampler must be one of {', '.join(known)}, got {self.sampler!r}")
        if self.strata < 1:
            raise ValueError(f"subset.strata must be at least 1, got {self.strata}")
        if not 0 <= self.cut < 1:
            raise ValueError(f"subset.cut must be at least 0 and below 1, got {self.cut}")
        if self.seed < 0:
            raise ValueError(f"subset.seed must be at least 0, got {self.seed}")


def select_subset(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    gradients: Float[np.ndarray, "n dim"],
    cluster_experts: pd.DataFrame,
    params: SubsetParams,
) -> pd.DataFrame:
    """min(budget, pool) rows: shares over clusters, then the sampler in each by its expert's score.

    `gradients` are rows in the order of `scores`, and read only for `shares: density`. Columns of the result,
    one row for each pool row: sample_id, source, skill, round, cluster, expert, score (the expert's), stratum
    (-1: in none), selected. A score that is not finite is a `ValueError` that names the sample.
    """
    assert len(pool_rows) == len(clusters) == len(scores) == len(gradients)
    ids = pool_rows["sample_id"].to_numpy()
    cluster = clusters.set_index("sample_id")["cluster"].loc[ids].to_numpy()
    labels, code, sizes = np.unique(cluster, return_inverse=True, return_counts=True)
    order = np.argsort(code, kind="stable")
    ends = np.cumsum(sizes)

    chosen = (
        cluster_experts[cluster_experts["chosen"]].set_index("cluster")["expert"].loc[labels].to_numpy(dtype=object)
    )
    experts, expert_of = np.unique(chosen, return_inverse=True)
    arranged = scores.set_index("sample_id").loc[ids]
    score = arranged[list(experts)].to_numpy(dtype=np.float64)[np.arange(len(ids)), expert_of[code]]
    _check_finite(score, ids, chosen[code])

    shares = _shares(clusters, arranged, gradients, scores, code, sizes, params)
    sample = rooms.load(SAMPLERS, params.sampler, "sample")
    selected, stratum = np.zeros(len(ids), dtype=bool), np.full(len(ids), -1)
    sorted_scores, sorted_ids = score[order], ids[order]
    for place, (label, end, size) in enumerate(zip(labels, ends, sizes, strict=True)):
        segment = slice(end - size, end)
        rows = order[segment]
        rng = np.random.default_rng([params.seed, int(label)])
        selected[rows], stratum[rows] = sample(
            sorted_scores[segment], sorted_ids[segment], int(shares[place]), rng, params
        )
    assert selected.sum() == min(params.budget, len(ids))
    expert = pd.Series(pd.Categorical.from_codes(expert_of[code], pd.Index(experts))).astype("str")
    return _table(pool_rows, cluster, expert, score, stratum, selected)


def uniform_subset(
    pool_rows: pd.DataFrame,
    eligible: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    budget: int,
    seeds: list[int],
) -> pd.DataFrame:
    """min(budget, eligible) of the eligible rows: equal shares over `groups` (0, 1, …), uniform in each.

    The table of `select_subset`, for strategies that judge no row: cluster and stratum are -1, expert is
    empty, score is NaN because there is none.
    """
    ids = pool_rows["sample_id"].to_numpy()
    queue = shuffled(ids, np.random.default_rng(seeds))
    queue = queue[eligible[queue]]
    shares = equal_shares(np.bincount(groups[queue]), budget)
    selected = np.zeros(len(ids), dtype=bool)
    selected[queue[take(groups[queue], shares, np.arange(len(queue)))]] = True
    nothing = np.full(len(ids), -1)
    expert = pd.Series([""], dtype="str").repeat(len(ids)).reset_index(drop=True)
    return _table(pool_rows, nothing, expert, np.full(len(ids), np.nan), nothing, selected)


def _shares(
    clusters: pd.DataFrame,
    arranged: pd.DataFrame,
    gradients: Float[np.ndarray, "n dim"],
    scores: pd.DataFrame,
    code: Int[np.ndarray, " n"],
    sizes: Int[np.ndarray, " clusters"],
    params: SubsetParams,
) -> Int[np.ndarray, " clusters"]:
    """The budget of each cluster, by the rule `params.shares`; `code` and `arranged` are in pool order."""
    if params.shares == "equal":
        return equal_shares(sizes, params.budget)
    if params.shares == "score_std":
        el2n = arranged["el2n"].to_numpy(dtype=np.float64)
        _check_finite(el2n, arranged.index.to_numpy(), np.full(len(el2n), "el2n", dtype=object))
        mean = np.bincount(code, el2n) / sizes
        return weighted_shares(sizes, np.sqrt(np.bincount(code, (el2n - mean[code]) ** 2) / sizes), params.budget)
    similarity = clusters.set_index("sample_id")["similarity"].loc[arranged.index].to_numpy(dtype=np.float64)
    spread = np.maximum(1 - np.bincount(code, similarity) / sizes, 0)
    code_of_gradient = pd.Series(code, arranged.index).loc[scores["sample_id"]].to_numpy()
    return weighted_shares(sizes, spread * _distances(gradients, code_of_gradient, len(sizes)), params.budget)


def _distances(
    gradients: Float[np.ndarray, "n dim"], code: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, " clusters"]:
    """Mean cosine distance of each cluster's centroid to the others; 1 if there are no others."""
    if count < 2:
        return np.ones(count)
    sums = np.zeros((count, gradients.shape[1]))
    for start in range(0, len(code), BLOCK):
        part = code[start : start + BLOCK]
        order = np.argsort(part, kind="stable")
        present, starts = np.unique(part[order], return_index=True)
        sums[present] += np.add.reduceat(gradients[start : start + BLOCK].astype(np.float64)[order], starts)
    centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    own = (centroids**2).sum(axis=1)
    return np.maximum(1 - (centroids @ centroids.sum(axis=0) - own) / (count - 1), 0)


def _table(
    pool_rows: pd.DataFrame,
    cluster: Int[np.ndarray, " n"],
    expert: pd.Series,
    score: Float[np.ndarray, " n"],
    stratum: Int[np.ndarray, " n"],
    selected: Bool[np.ndarray, " n"],
) -> pd.DataFrame:
    """The contract's columns, in pool order."""
    known = pool_rows[["sample_id", "source", "skill", "round"]].reset_index(drop=True)
    return known.assign(
        cluster=cluster.astype(np.int32),
        expert=expert,
        score=score,
        stratum=stratum.astype(np.int32),
        selected=selected,
    )


def _check_finite(values: Float[np.ndarray, " n"], sample_ids: Int[np.ndarray, " n"], expert: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        worst = bad[np.argmin(sample_ids[bad])]
        raise ValueError(
            f"{len(bad)} scores are not finite, first {expert[worst]!r} = {values[worst]} of sample {sample_ids[worst]}"
        )

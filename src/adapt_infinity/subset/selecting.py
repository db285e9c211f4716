"""The subset of a round: which pool rows are trained on, and why each was or was not (METHOD section 5).

Every pool row appears in the table with the cluster it belongs to, the expert that judged it, the score and
stratum it was given, and whether it was selected.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from adapt_infinity import registry
from adapt_infinity.data.tables import align_rows
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.selector_experts.expert_scores import expert_scores
from adapt_infinity.subset import shares
from adapt_infinity.subset.budgets import Rule, at_least, equal_shares, shuffled, take, weighted_shares
from adapt_infinity.subset.constraints import Constraints, Mask, fill
from adapt_infinity.subset.shares import ClusterStatistics

SAMPLERS = "adapt_infinity.subset.samplers"
VIEWS = ("gradients", "embeddings")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SubsetParams(Constraints):
    """params:subset."""

    budget: int  # samples per round
    token_budget: int  # tokens per round, as the probe counted them; 0 = any number
    shares: str  # of the budget over clusters: a file of selection/shares
    sampler: str  # inside a cluster: a file of selection/samplers
    strata: int  # of equal width (ccs)
    cut: float  # share of each cluster's hardest rows that comes back last (ccs)
    cut_tails: bool  # the same for 5 % at either end (ccs)
    view: str  # rows that k_center and facility_location compare: gradients or embeddings
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget < 1:
            raise ValueError(f"subset.budget must be at least 1, got {self.budget}")
        if self.token_budget < 0:
            raise ValueError(f"subset.token_budget must not be negative, got {self.token_budget}")
        for key, known in (("shares", shares.names()), ("sampler", registry.names(SAMPLERS)), ("view", VIEWS)):
            if getattr(self, key) not in known:
                raise ValueError(f"subset.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if self.strata < 1:
            raise ValueError(f"subset.strata must be at least 1, got {self.strata}")
        if not 0 <= self.cut < 1:
            raise ValueError(f"subset.cut must be at least 0 and below 1, got {self.cut}")
        if self.seed < 0:
            raise ValueError(f"subset.seed must be at least 0, got {self.seed}")


@dataclass(frozen=True)
class Members:
    """Rows of one cluster that a sampler chooses from, by ascending sample_id."""

    sample_ids: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]  # of the cluster's expert: finite, higher is harder
    vectors: Callable[[], Float[np.ndarray, "n dim"]] = field(repr=False)  # unit rows, read when asked for


def select_subset(
    pool_rows: pd.DataFrame,
    clusters: pd.DataFrame,
    scores: pd.DataFrame,
    features: Features,
    cluster_experts: pd.DataFrame,
    requests: pd.DataFrame,
    subset_params: SubsetParams,
) -> pd.DataFrame:
    """min(budget, pool) rows: shares over clusters, then the sampler in each by its expert's score.

    Constraints on sources, skills and single samples (constraints.py) and a token budget may leave fewer.
    Of `features` only the rows of `shares: density` and of samplers that compare rows are read. The result has one row
    per pool row and the columns sample_id, source, skill, round, cluster, expert, score (the expert's), stratum (-1: in
    none) and selected. A score that is not finite is a `ValueError` that names the sample.
    """
    assert len(pool_rows) == len(clusters) == len(scores) == len(features.sample_ids)
    order = np.argsort(pool_rows["sample_id"].to_numpy(), kind="stable")
    rows = align_rows(pool_rows, pool_rows["sample_id"].to_numpy()[order])
    ids = rows["sample_id"].to_numpy()
    judged = align_rows(scores, ids)
    draw = ClusterDraw.prepare(clusters, judged, features, cluster_experts, ids, subset_params)
    everyone = np.ones(len(ids), dtype=bool)

    def chosen(budget: int) -> Mask:
        draw.stratum[:] = -1
        return fill(rows, requests, budget, subset_params, everyone, draw)

    whole = subset_params.token_budget == 0
    selected = chosen(subset_params.budget) if whole else _within_tokens(chosen, judged, subset_params)
    table = subset_table(rows, draw.labels[draw.code], draw.expert, draw.score, draw.stratum, selected)
    return align_rows(table, pool_rows["sample_id"].to_numpy()).reset_index(drop=True)


def uniform_subset(
    pool_rows: pd.DataFrame,
    requests: pd.DataFrame,
    eligible: Bool[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"],
    params: SubsetParams,
    round: int,
) -> pd.DataFrame:
    """min(budget, eligible) of the eligible rows: equal shares over `groups` (0, 1, …), uniform in each.

    The table of `select_subset`, for strategies that judge no row: cluster and stratum are -1, expert is empty, score
    is NaN because there is none. Of `params`, budget, seed and limits are read; a token budget is a `ValueError`,
    since without a probe nobody has counted tokens.
    """
    if params.token_budget:
        raise ValueError("subset.token_budget needs the probe's counts, and this strategy probes nothing: set it to 0")
    order = np.argsort(pool_rows["sample_id"].to_numpy(), kind="stable")
    rows, eligible, groups = pool_rows.iloc[order], eligible[order], groups[order]
    queue = shuffled(rows["sample_id"].to_numpy(), np.random.default_rng([params.seed, round]))

    def draw(open_rows: Mask, taken: Mask, count: int) -> Mask:
        size = int(groups.max(initial=-1)) + 1
        there, had = (np.bincount(groups[mask], minlength=size) for mask in (open_rows, taken))
        shared = at_least(lambda some, budget: equal_shares((there + had)[some], budget), had, count + int(had.sum()))
        waiting = queue[open_rows[queue]]
        drawn = np.zeros(len(rows), dtype=bool)
        drawn[waiting[take(groups[waiting], shared - had, np.arange(len(waiting)))]] = True
        return drawn

    selected = fill(rows, requests, params.budget, params, eligible, draw)
    nothing = np.full(len(rows), -1)
    expert = pd.Series(np.full(len(rows), ""), dtype="str")
    table = subset_table(rows, nothing, expert, np.full(len(rows), np.nan), nothing, selected)
    return align_rows(table, pool_rows["sample_id"].to_numpy()).reset_index(drop=True)


@dataclass(frozen=True)
class ClusterDraw:
    """Draws rows: so many of each cluster by its share, those by the sampler. Rows by ascending sample_id."""

    ids: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " clusters"]
    code: Int[np.ndarray, " n"]  # each row's place in `labels`
    order: Int[np.ndarray, " n"]  # rows cluster by cluster
    ends: Int[np.ndarray, " clusters"]  # where each cluster's rows end in `order`
    expert: pd.Series
    score: Float[np.ndarray, " n"]
    stratum: Int[np.ndarray, " n"]  # written by draws: the row's stratum in the last one that was offered it
    weights: Float[np.ndarray, " clusters"] | None
    vectors: Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some dim"]]
    params: SubsetParams

    @classmethod
    def prepare(
        cls,
        clusters: pd.DataFrame,
        scores: pd.DataFrame,
        features: Features,
        cluster_experts: pd.DataFrame,
        ids: Int[np.ndarray, " n"],
        params: SubsetParams,
    ) -> "ClusterDraw":
        """What all draws have in common. `scores` has the rows of `ids`; the others may have them in any order."""
        known = align_rows(clusters, ids)
        labels, code, sizes = np.unique(known["cluster"].to_numpy(), return_inverse=True, return_counts=True)
        experts, judge, score = expert_scores(known, cluster_experts, scores)
        row_of = np.argsort(features.sample_ids, kind="stable")  # of ids, in the features
        in_order = bool((row_of == np.arange(len(ids))).all())
        statistics = ClusterStatistics(
            code=code,
            sizes=sizes,
            similarity=known["similarity"].to_numpy(dtype=np.float64),
            scores=scores,
            gradients=features.gradients if in_order else features.gradients[row_of],
        )
        matrix = features.gradients if params.view == "gradients" else features.embeddings
        return cls(
            ids=ids,
            labels=labels,
            code=code,
            order=np.argsort(code, kind="stable"),
            ends=np.cumsum(sizes),
            expert=pd.Series(pd.Categorical.from_codes(judge, pd.Index(experts, dtype="str"))).astype("str"),
            score=score,
            stratum=np.full(len(ids), -1),
            weights=shares.load(params.shares)(statistics) if len(ids) else None,
            vectors=lambda some: matrix[row_of[some]].astype(np.float32),
            params=params,
        )

    def __call__(self, open_rows: Mask, taken: Mask, count: int) -> Mask:
        """`count` of the open rows, such that with those taken already each cluster has its share."""
        there, had = (np.bincount(self.code[mask], minlength=len(self.labels)) for mask in (open_rows, taken))
        wanted = at_least(self._rule(there + had), had, count + int(had.sum())) - had
        sample = registry.load(SAMPLERS, self.params.sampler, "sample")
        drawn = np.zeros(len(self.ids), dtype=bool)
        start = 0
        for place, (label, end) in enumerate(zip(self.labels.tolist(), self.ends.tolist(), strict=True)):
            rows = self.order[start:end]
            start = end
            rows = rows[open_rows[rows]]
            if len(rows):
                members = Members(self.ids[rows], self.score[rows], partial(self.vectors, rows))
                rng = np.random.default_rng([self.params.seed, label])
                drawn[rows], self.stratum[rows] = sample(members, int(wanted[place]), rng, self.params)
        assert drawn.sum() == count
        return drawn

    def _rule(self, sizes: Int[np.ndarray, " clusters"]) -> Rule:
        weights = self.weights
        if weights is None:
            return lambda some, budget: equal_shares(sizes[some], budget)
        return lambda some, budget: weighted_shares(sizes[some], weights[some], budget)


def _within_tokens(chosen: Callable[[int], Mask], scores: pd.DataFrame, params: SubsetParams) -> Mask:
    """The subset of the largest sample budget whose tokens are within the token budget, found by halving.

    The sets of two budgets need not be nested, so one between them may cost more than the larger: what is returned
    holds to the token budget, and the next larger budget that was tried does not.
    """
    tokens = scores["tokens"].to_numpy(np.int64)
    whole = chosen(params.budget)
    if tokens[whole].sum() <= params.token_budget:
        return whole
    low, high = 0, int(whole.sum())
    while high - low > 1:
        middle = (low + high) // 2
        fits = tokens[chosen(middle)].sum() <= params.token_budget
        low, high = (middle, high) if fits else (low, middle)
    if low == 0:
        raise ValueError(f"subset.token_budget {params.token_budget} is too small for a single sample")
    log.info("subset.token_budget leaves %d of %d samples", low, params.budget)
    return chosen(low)


def subset_table(
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

"""A draw of a number of samples from the clusters: each cluster's share of them, taken by the sampler."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from adapt_infinity.data.tables import align_rows
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.selector_experts.expert_scores import expert_scores
from adapt_infinity.subset import samplers, shares
from adapt_infinity.subset.budgets import Rule, at_least, equal_shares, weighted_shares
from adapt_infinity.subset.constraints import Mask
from adapt_infinity.subset.params import SubsetParams
from adapt_infinity.subset.samplers import Members
from adapt_infinity.subset.shares import ClusterStatistics


@dataclass(frozen=True)
class ClusterDraw:
    """Draws rows from the clusters (see `__call__`). Arrays have one row per sample, by ascending sample_id."""

    ids: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " clusters"]  # numbers of the clusters, ascending
    code: Int[np.ndarray, " n"]  # index of each row's cluster in `labels`
    order: Int[np.ndarray, " n"]  # row numbers, cluster after cluster
    ends: Int[np.ndarray, " clusters"]  # where each cluster's rows end in `order`
    expert: pd.Series
    score: Float[np.ndarray, " n"]  # by the expert of the row's cluster
    stratum: Int[np.ndarray, " n"]  # written by each draw, for the rows that it could take
    weights: Float[np.ndarray, " clusters"] | None  # of the shares; None = equal shares
    vectors: Callable[[Int[np.ndarray, " some"]], Float[np.ndarray, "some dim"]]  # of the rows with these numbers
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
        """Compute what all draws share. `scores` has the rows of `ids`; the other tables may have any order."""
        clusters = align_rows(clusters, ids)
        labels, code, sizes = np.unique(clusters["cluster"].to_numpy(), return_inverse=True, return_counts=True)
        experts, expert_code, score = expert_scores(clusters, cluster_experts, scores)
        row_of = np.argsort(features.sample_ids, kind="stable")  # the row of each id in the features
        in_order = bool((row_of == np.arange(len(ids))).all())
        statistics = ClusterStatistics(
            code=code,
            sizes=sizes,
            similarity=clusters["similarity"].to_numpy(dtype=np.float64),
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
            expert=pd.Series(pd.Categorical.from_codes(expert_code, pd.Index(experts, dtype="str"))).astype("str"),
            score=score,
            stratum=np.full(len(ids), -1),
            weights=shares.load(params.shares)(statistics) if len(ids) else None,
            vectors=lambda some: matrix[row_of[some]].astype(np.float32),
            params=params,
        )

    def __call__(self, open_rows: Mask, taken: Mask, count: int) -> Mask:
        """Take `count` of the open rows, so that each cluster has its share of these and the rows taken before."""
        available, already = (np.bincount(self.code[mask], minlength=len(self.labels)) for mask in (open_rows, taken))
        wanted = at_least(self._rule(available + already), already, count + int(already.sum())) - already
        sample = samplers.load(self.params.sampler)
        drawn = np.zeros(len(self.ids), dtype=bool)
        start = 0
        for index, (label, end) in enumerate(zip(self.labels.tolist(), self.ends.tolist(), strict=True)):
            rows = self.order[start:end]
            start = end
            rows = rows[open_rows[rows]]
            if len(rows):
                members = Members(self.ids[rows], self.score[rows], partial(self.vectors, rows))
                rng = np.random.default_rng([self.params.seed, label])
                drawn[rows], self.stratum[rows] = sample(members, int(wanted[index]), rng, self.params)
        assert drawn.sum() == count
        return drawn

    def _rule(self, sizes: Int[np.ndarray, " clusters"]) -> Rule:
        weights = self.weights
        if weights is None:
            return lambda some, budget: equal_shares(sizes[some], budget)
        return lambda some, budget: weighted_shares(sizes[some], weights[some], budget)

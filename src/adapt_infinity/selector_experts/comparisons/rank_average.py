"""Rank average: a sample's mean rank in its cluster over all experts that compete; no expert's unit counts."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from adapt_infinity.selector_experts.context import ScoringContext


def score(evidence: ScoringContext) -> Float[np.ndarray, " n"]:
    """From 0 (lowest of all scores) to 1 (highest of all); samples with equal scores share their mean rank."""
    found = np.zeros(len(evidence.cluster))
    order = np.argsort(evidence.cluster, kind="stable")
    columns = evidence.scores[list(evidence.experts)].to_numpy(dtype=np.float64)
    for members in np.split(order, np.flatnonzero(np.diff(evidence.cluster[order])) + 1):
        if len(members) > 1:
            ranks = rankdata(columns[members], axis=0) - 1
            found[members] = ranks.mean(axis=1) / (len(members) - 1)
    return found

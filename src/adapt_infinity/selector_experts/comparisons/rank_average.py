"""Rank average: the mean rank of a sample in its cluster over all competing experts; scores may have any unit."""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from adapt_infinity.selector_experts.context import ScoringContext


def score(context: ScoringContext) -> Float[np.ndarray, " n"]:
    """Between 0 (lowest of all scores) and 1 (highest of all); samples with equal scores get their mean rank."""
    average = np.zeros(len(context.cluster))
    order = np.argsort(context.cluster, kind="stable")
    columns = context.scores[list(context.experts)].to_numpy(dtype=np.float64)
    for members in np.split(order, np.flatnonzero(np.diff(context.cluster[order])) + 1):
        if len(members) > 1:
            ranks = rankdata(columns[members], axis=0) - 1
            average[members] = ranks.mean(axis=1) / (len(members) - 1)
    return average

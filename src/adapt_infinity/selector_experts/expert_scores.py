"""The score of every sample by the selector expert of its cluster (docs/method.md, section 4)."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from adapt_infinity.data.tables import require_columns


def expert_scores(
    clusters: pd.DataFrame, cluster_experts: pd.DataFrame, scores: pd.DataFrame
) -> tuple[np.ndarray, Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Look up the expert of each sample's cluster, and the sample's score by this expert.

    Returns three arrays: the names of all chosen experts (sorted), and for each of the n samples the index of its
    expert among these names and its score by this expert.

    `clusters` (sample_id, cluster) and `scores` (sample_id and one column per score) must have their rows in the same
    order. `cluster_experts` has the columns cluster, expert and chosen. `ValueError` when a column is missing, when a
    cluster has no chosen expert, or when a score that is looked up is not finite; the message names it.
    """
    require_columns(clusters, "clusters", ["cluster"])
    require_columns(cluster_experts, "cluster_experts", ["cluster", "expert", "chosen"])
    labels, label_index = np.unique(clusters["cluster"].to_numpy(), return_inverse=True)
    chosen = cluster_experts[cluster_experts["chosen"]].set_index("cluster")["expert"]
    without = np.setdiff1d(labels, chosen.index)
    if len(without):
        raise ValueError(f"cluster_experts chooses no expert for cluster {without[0]}")
    experts, expert_of_cluster = np.unique(chosen.loc[labels].to_numpy(dtype=object), return_inverse=True)
    require_columns(scores, "scores", ["sample_id", *experts])
    expert_of_row = expert_of_cluster[label_index]
    score = np.empty(len(expert_of_row))
    for index, name in enumerate(experts):
        rows = expert_of_row == index
        score[rows] = scores[name].to_numpy(dtype=np.float64)[rows]
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        first = bad[np.argmin(scores["sample_id"].to_numpy()[bad])]
        found = f"{experts[expert_of_row[first]]!r} = {score[first]} of sample {scores['sample_id'].iloc[first]}"
        raise ValueError(f"{len(bad)} scores are not finite, first {found}")
    return experts, expert_of_row, score

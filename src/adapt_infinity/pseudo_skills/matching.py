"""Matching of clusters with those of the previous round, by the samples that they share.

The centroids of the previous round lie in the feature space of the previous adapter, so they cannot be compared with
the present ones. Samples of the pool that both rounds have clustered can.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pseudo_skills.kmeans import KMeansParams, means
from adapt_infinity.pseudo_skills.unit_rows import UnitRows

MIN_SHARED = 0.25  # two clusters match only if they share at least this part of the common rows of one of them
COLUMNS = {"sample_id": "int64", "cluster": "int32", "similarity": "float32"}


def start_clusters() -> pd.DataFrame:
    """The table of clusters of round 0, without rows."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})


def match_clusters(clusters: pd.DataFrame, previous_clusters: pd.DataFrame) -> pd.DataFrame:
    """Match clusters with previous ones; both tables have the columns sample_id and cluster.

    One row per pair of a cluster and a previous cluster that share samples, ordered by cluster, then by falling number
    of shared samples:

        cluster, previous    the numbers of the two clusters
        shared               samples that are in both
        of_cluster           shared, as a share of the cluster's samples that were in the pool in the previous round
        of_previous          shared, as a share of the previous cluster's samples that are still in the pool
        follows              whether `cluster` is the continuation of `previous`

    Continuations are one to one and keep as many samples as possible (Kuhn 1955); a pair counts only if of_cluster or
    of_previous is at least `MIN_SHARED`. `ValueError` for a missing column, or a sample id that a table
    has twice.
    """
    require_columns(clusters, "clusters", ("sample_id", "cluster"))
    require_columns(previous_clusters, "previous_clusters", ("sample_id", "cluster"))
    both = clusters[["sample_id", "cluster"]].merge(
        previous_clusters[["sample_id", "cluster"]].rename(columns={"cluster": "previous"}),
        on="sample_id",
        validate="one_to_one",
    )
    links = both.groupby(["cluster", "previous"]).size().rename("shared").reset_index()
    links["of_cluster"] = links["shared"] / links.groupby("cluster")["shared"].transform("sum")
    links["of_previous"] = links["shared"] / links.groupby("previous")["shared"].transform("sum")
    table = links.pivot(index="cluster", columns="previous", values="shared").fillna(0)
    row, column = linear_sum_assignment(table.to_numpy(), maximize=True)
    pairs = set(zip(table.index[row], table.columns[column], strict=True))
    paired = [pair in pairs for pair in zip(links["cluster"], links["previous"], strict=True)]
    links["follows"] = np.array(paired, dtype=bool) & (links[["of_cluster", "of_previous"]].max(axis=1) >= MIN_SHARED)
    links = links.sort_values(["cluster", "shared", "previous"], ascending=[True, False, True], ignore_index=True)
    return links.astype({"cluster": np.int32, "previous": np.int32, "shared": np.int64, "follows": bool})


def continued_clusters(cluster_links: pd.DataFrame, clusters: pd.Series) -> Int64[np.ndarray, " clusters"]:
    """For each of the `clusters` the previous cluster that it continues, by the table of `match_clusters`; −1: none."""
    previous = cluster_links[cluster_links["follows"]].set_index("cluster")["previous"]
    return clusters.map(previous).fillna(-1).to_numpy(np.int64)


def warm_centroids(
    rows: UnitRows,
    sample_ids: Int64[np.ndarray, " n"],
    previous_clusters: pd.DataFrame,
    k: int,
    kmeans_params: KMeansParams,
) -> Float32[Tensor, "g dim"] | None:
    """Start centroids from the previous round: the mean directions of previous clusters in the present features.

    Only rows that are still in the pool count. Returned are the centroids of the k largest previous clusters, ordered
    by number; None if no row was clustered before. `sample_ids` are the ids of the rows.
    """
    previous = previous_clusters.set_index("sample_id")["cluster"]
    labels = previous.reindex(sample_ids).fillna(-1).to_numpy(np.int64)
    if (labels < 0).all():
        return None
    directions, sizes = means(rows, labels, int(labels.max()) + 1, kmeans_params)
    known = np.flatnonzero(directions.norm(dim=1).numpy() > 0)
    largest = known[np.argsort(-sizes[known], kind="stable")][:k]
    return directions[torch.from_numpy(np.sort(largest))] if len(largest) else None

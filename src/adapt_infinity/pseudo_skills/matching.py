"""Which cluster was which in the round before, by the samples that they share.

Yesterday's centroids lie in the feature space of yesterday's adapter and mean nothing in today's. What both rounds have
in common are samples: those of the pool that were there before and are still.
"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from adapt_infinity.pseudo_skills.kmeans import KMeansParams, means
from adapt_infinity.pseudo_skills.unit_rows import UnitRows

PART = 0.25  # of the rows that were there before, or are still there: fewer are a coincidence
COLUMNS = {"sample_id": "int64", "cluster": "int32", "similarity": "float32"}


def start_clusters() -> pd.DataFrame:
    """The clusters of round 0: none."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in COLUMNS.items()})


def match_clusters(clusters: pd.DataFrame, previous_clusters: pd.DataFrame) -> pd.DataFrame:
    """A line for each pair of a cluster and a previous one that share rows, by cluster, most shared rows first.

    cluster, previous, shared (rows), of_cluster (their share of the cluster's rows that were there before),
    of_previous (their share of the previous cluster's rows that are still there), follows (whether the one goes on
    in the other: one to one, so that as many rows as possible keep theirs (Kuhn 1955), and only where a `PART` of
    either is shared).
    """
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
    goes_on = set(zip(table.index[row], table.columns[column], strict=True))
    paired = [pair in goes_on for pair in zip(links["cluster"], links["previous"], strict=True)]
    links["follows"] = np.array(paired, dtype=bool) & (links[["of_cluster", "of_previous"]].max(axis=1) >= PART)
    links = links.sort_values(["cluster", "shared", "previous"], ascending=[True, False, True], ignore_index=True)
    return links.astype({"cluster": np.int32, "previous": np.int32, "shared": np.int64, "follows": bool})


def follows(cluster_links: pd.DataFrame, clusters: pd.Series) -> Int64[np.ndarray, " clusters"]:
    """The previous cluster that each one goes on with; −1: none."""
    goes_on = cluster_links[cluster_links["follows"]].set_index("cluster")["previous"]
    return clusters.map(goes_on).fillna(-1).to_numpy(np.int64)


def warm_centroids(
    rows: UnitRows, sample_ids: Int64[np.ndarray, " n"], previous_clusters: pd.DataFrame, k: int, search: KMeansParams
) -> Float32[Tensor, "g dim"] | None:
    """The direction, in today's features, of what is left of each previous cluster: the k largest, or None.

    `sample_ids` are those of the rows.
    """
    known = previous_clusters.set_index("sample_id")["cluster"]
    labels = known.reindex(sample_ids).fillna(-1).to_numpy(np.int64)
    if (labels < 0).all():
        return None
    directions, sizes = means(rows, labels, int(labels.max()) + 1, search)
    pointing = np.flatnonzero(directions.norm(dim=1).numpy() > 0)
    largest = pointing[np.argsort(-sizes[pointing], kind="stable")][:k]
    return directions[torch.from_numpy(np.sort(largest))] if len(largest) else None

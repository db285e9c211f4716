"""The whole stage: from the probe's features to the table of clusters (docs/method.md, section 3)."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from adapt_infinity.data.tables import require_columns
from adapt_infinity.pool.pool import Pool
from adapt_infinity.pseudo_skills import backends, k_sweep
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.pseudo_skills.kmeans import Clustering, KMeansParams, spherical_kmeans
from adapt_infinity.pseudo_skills.matching import start_clusters, warm_centroids
from adapt_infinity.pseudo_skills.params import AUTO, PseudoSkillParams
from adapt_infinity.pseudo_skills.spaces import rows_in
from adapt_infinity.pseudo_skills.unit_rows import MapPieces, UnitRows, piece_threads, unit_rows

log = logging.getLogger(__name__)


def find_pseudo_skills(
    features: Features, pool: Pool, previous_clusters: pd.DataFrame, params: PseudoSkillParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cluster the samples of the pool in the spaces that `params.space` names.

    previous_clusters: the table of the previous round, for a warm start (`start_clusters()` if there is none).
    Returns the tables and raises the errors of `cluster_rows`.
    """
    views = {view: rows_in(view, features=features, pool=pool) for view in params.views}
    return cluster_rows(views, features.sample_ids, params, previous_clusters)


def cluster_questions(pool: Pool, params: PseudoSkillParams) -> pd.DataFrame:
    """Cluster the pool by the words of its questions, whatever `pseudo_skills.space` is; no model is needed.

    Returns the first table of `cluster_rows`.
    """
    question_params = replace(params, space="questions", warm_start=False)
    ids = pool.index["sample_id"].to_numpy()
    return cluster_rows({"questions": rows_in("questions", pool=pool)}, ids, question_params, start_clusters())[0]


def cluster_rows(
    views: dict[str, Float[np.ndarray, "n _"]],
    sample_ids: Int[np.ndarray, " n"],
    params: PseudoSkillParams,
    previous_clusters: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cluster rows by spherical k-means.

    views: arrays [n, dim] in half or single precision by name; each row is the concatenation of its views, each scaled
    to length 1.
    sample_ids: the id of each row.

    Returns two tables. The first, in the order of `sample_ids`:

        sample_id
        cluster       0 = the largest; among equally large ones first the one with the smallest sample_id
        similarity    cosine to the centroid

    The second has the columns of `k_sweep.COLUMNS`: what was measured for each k that was tried. No cluster is empty:
    with fewer distinct rows than k there are fewer clusters, and a warning and the column `note` say so.

    `ValueError` without rows; for a row that is all zeros or not finite, with its sample id; if `params.k` is auto and
    there are too few rows for any candidate; and for a device that torch does not have.
    """
    if len(sample_ids) == 0:
        raise ValueError("pseudo-skills need at least one row, but the pool is empty")
    with piece_threads(params.threads, params.block) as map_pieces:
        rows = unit_rows(list(views.values()), sample_ids, list(views), map_pieces)
        kmeans_params = _kmeans_params(params, map_pieces)
        results: list[k_sweep.SweepResult] = []
        if params.k == AUTO:
            results = k_sweep.sweep(rows, params.candidates, params.sweep_rows, params.seed, kmeans_params)
        k = k_sweep.best_k(results) if results else int(params.k)
        clustering = _cluster(rows, np.sort(sample_ids), k, params, kmeans_params, previous_clusters)
        note = _note(k, len(np.unique(clustering.labels)), len(rows))
        results = results or k_sweep.describe_given_k(rows, k, clustering, params.seed, note)
    if note:
        log.warning(note)
    labels = _by_size(clustering.labels, np.sort(sample_ids))
    clusters = pd.DataFrame(
        {"sample_id": np.sort(sample_ids), "cluster": labels, "similarity": clustering.similarity}
    ).astype({"sample_id": np.int64})
    return clusters.set_index("sample_id").loc[sample_ids].reset_index(), k_sweep.table(results)


def agreement(clusters: pd.DataFrame, labels: pd.Series) -> dict[str, float | str]:
    """How well clusters agree with known labels, which have the same order.

    nmi: normalised mutual information, 0 to 1; ari: adjusted Rand index, at most 1, about 0 by chance. With fewer than
    two distinct labels both are undefined; a text with the reason takes their place. `ValueError` for a missing column
    or another number of labels.
    """
    require_columns(clusters, "clusters", ("cluster",))
    if len(clusters) != len(labels):
        raise ValueError(f"there are {len(labels)} labels for {len(clusters)} clustered samples")
    if labels.nunique() < 2:
        reason = f"undefined: {labels.nunique()} distinct labels"
        return {"nmi": reason, "ari": reason}
    known, found = labels.to_numpy(), clusters["cluster"].to_numpy()
    return {
        "nmi": float(normalized_mutual_info_score(known, found)),
        "ari": float(adjusted_rand_score(known, found)),
    }


def _cluster(
    rows: UnitRows,
    sample_ids: Int[np.ndarray, " n"],
    k: int,
    params: PseudoSkillParams,
    kmeans_params: KMeansParams,
    previous_clusters: pd.DataFrame,
) -> Clustering:
    k = min(k, len(rows))
    given = warm_centroids(rows, sample_ids, previous_clusters, k, kmeans_params) if params.warm_start else None
    return spherical_kmeans(rows, k, params.seed, kmeans_params, given)


def _kmeans_params(params: PseudoSkillParams, map_pieces: MapPieces) -> KMeansParams:
    name = params.device
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"pseudo_skills.device is {params.device}, but torch sees {torch.cuda.device_count()} GPUs")
    return KMeansParams(
        map_pieces=map_pieces,
        searcher=backends.load(params.backend),
        device=device,
        iterations=params.iterations,
        tolerance=params.tolerance,
        restarts=params.restarts,
        batch=params.batch,
    )


def _note(k: int, found: int, n: int) -> str:
    """The warning that n rows gave fewer clusters than k; "" if they did not."""
    if found == k:
        return ""
    return f"pseudo_skills.k = {k}, but the pool has {f'{n} rows' if found == n else f'only {found} distinct rows'}"


def _by_size(labels: Int[np.ndarray, " n"], sample_ids: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The labels, renumbered by size (0 = the largest), and among equal sizes by the smallest sample_id."""
    _, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    smallest = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(smallest, code, sample_ids)
    number = np.empty(len(sizes), dtype=np.int32)
    number[np.lexsort((smallest, -sizes))] = np.arange(len(sizes))
    return number[code]

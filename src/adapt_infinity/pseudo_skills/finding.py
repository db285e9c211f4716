"""From features to the clusters table: which space, how many clusters, from which start, numbered by size."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from adapt_infinity.pool.pool import Pool
from adapt_infinity.pseudo_skills import backends, k_sweep
from adapt_infinity.pseudo_skills.feature_source import Features
from adapt_infinity.pseudo_skills.kmeans import Clustering, KMeansParams, spherical_kmeans
from adapt_infinity.pseudo_skills.matching import start_clusters, warm_centroids
from adapt_infinity.pseudo_skills.params import AUTO, PseudoSkillParams
from adapt_infinity.pseudo_skills.spaces import rows_in
from adapt_infinity.pseudo_skills.unit_rows import Each, UnitRows, unit_rows, workers

log = logging.getLogger(__name__)


def find_pseudo_skills(
    features: Features, pool: Pool, previous_clusters: pd.DataFrame, params: PseudoSkillParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clusters table and the k_sweep table of the pool, in the spaces that the parameters name.

    See `cluster_rows`. Each space takes what it needs of the inputs.
    """
    views = {view: rows_in(view, features=features, pool=pool) for view in params.views}
    return cluster_rows(views, features.sample_ids, params, previous_clusters)


def cluster_questions(pool: Pool, params: PseudoSkillParams) -> pd.DataFrame:
    """Clusters of the questions' words, whatever `pseudo_skills.space` says: sample_id, cluster, similarity.

    For a strategy that has no model read anything.
    """
    of_words = replace(params, space="questions", warm_start=False)
    ids = pool.index["sample_id"].to_numpy()
    return cluster_rows({"questions": rows_in("questions", pool=pool)}, ids, of_words, start_clusters())[0]


def cluster_rows(
    views: dict[str, Float[np.ndarray, "n _"]],
    sample_ids: Int[np.ndarray, " n"],
    params: PseudoSkillParams,
    previous_clusters: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clusters: sample_id, cluster (0 = the largest; of equally large ones, that with the smallest sample_id),
    similarity (cosine to its centroid), in the order of `sample_ids`. No cluster is empty; if there are fewer
    distinct rows than k there are fewer clusters, and the chosen line's `note` in k_sweep and a warning say so.

    k_sweep: k, clusters, rows, within, silhouette, stability, chosen, note; see k_sweep.py.

    `ValueError` without rows, and for rows of zeros or not finite, named with their sample.
    """
    if len(sample_ids) == 0:
        raise ValueError("pseudo-skills need at least one row, but the pool is empty")
    with workers(params.threads, params.block) as each:
        rows = unit_rows(list(views.values()), sample_ids, list(views), each)
        search = _search(params, each)
        lines: list[k_sweep.Line] = []
        if params.k == AUTO:
            lines = k_sweep.sweep(rows, params.candidates, params.sweep_rows, params.seed, search)
        k = k_sweep.best(lines) if lines else int(params.k)
        clustering = _cluster(rows, np.sort(sample_ids), k, params, search, previous_clusters)
        found = len(np.unique(clustering.labels))
        note = _note(k, found, len(rows))
        lines = lines or k_sweep.given(rows, k, clustering, params.seed, note)
    if note:
        log.warning(note)
    labels = _by_size(clustering.labels, np.sort(sample_ids))
    clusters = pd.DataFrame(
        {"sample_id": np.sort(sample_ids), "cluster": labels, "similarity": clustering.similarity}
    ).astype({"sample_id": np.int64})
    return clusters.set_index("sample_id").loc[sample_ids].reset_index(), k_sweep.table(lines)


def agreement(clusters: pd.DataFrame, labels: pd.Series) -> dict[str, float | str]:
    """How well clusters and known labels (same order) agree: nmi in [0, 1], ari at most 1, by chance 0.

    With fewer than two labels both are undefined, and the reason stands in their place.
    """
    assert len(clusters) == len(labels)
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
    search: KMeansParams,
    previous_clusters: pd.DataFrame,
) -> Clustering:
    fitting = min(k, len(rows))
    warm = warm_centroids(rows, sample_ids, previous_clusters, fitting, search) if params.warm_start else None
    return spherical_kmeans(rows, fitting, params.seed, search, warm)


def _search(params: PseudoSkillParams, each: Each) -> KMeansParams:
    chosen = params.device
    if chosen == AUTO:
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(chosen)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"pseudo_skills.device is {params.device}, but torch sees {torch.cuda.device_count()} GPUs")
    return KMeansParams(
        each=each,
        searcher=backends.load(params.backend),
        device=device,
        iterations=params.iterations,
        tolerance=params.tolerance,
        restarts=params.restarts,
        batch=params.batch,
    )


def _note(k: int, found: int, n: int) -> str:
    if found == k:
        return ""
    return f"pseudo_skills.k = {k}, but the pool has {f'{n} rows' if found == n else f'only {found} distinct rows'}"


def _by_size(labels: Int[np.ndarray, " n"], sample_ids: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The same clusters, numbered by size (0 = the largest), equally large ones by smallest sample_id."""
    _, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    smallest = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(smallest, code, sample_ids)
    number = np.empty(len(sizes), dtype=np.int32)
    number[np.lexsort((smallest, -sizes))] = np.arange(len(sizes))
    return number[code]

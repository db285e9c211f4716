"""Pseudo-skills: clusters of samples whose gradients point the same way (METHOD section 3; arXiv:2410.10636).

Spherical k-means by faiss: unit rows, unit centroids, greedy k-means++ seeding on a sample of the rows, the
best of several restarts. Rows in half precision are handed to faiss as they are and decoded by it block by
block, so a memmap is never copied as a whole. Clusters are numbered by size, so that labels do not depend on
the order of centroids.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

BLOCK = 16_384  # rows read at a time, and rows among which the first centroids are sought (or 8 k, if more)
SILHOUETTE_ROWS = 2_000
DISTINCT = 1e-6  # rows whose cosine is closer to 1 than this are one row
TOP = 3  # sources on a card
NEAREST = 5  # samples on a card

log = logging.getLogger(__name__)


@runtime_checkable
class Features(Protocol):
    """What the probe measured, a row for each sample in pool order; arrays have rows of length 1."""

    @property
    def sample_ids(self) -> Int[np.ndarray, " n"]:
        """Ascending."""
        ...

    @property
    def gradients(self) -> Float[np.ndarray, "n dim"]:
        """Sketched gradient features, half or single precision."""
        ...

    @property
    def embeddings(self) -> Float[np.ndarray, "n hidden"]:
        """Mean hidden states."""
        ...

    @property
    def scores(self) -> pd.DataFrame:
        """The scores table."""
        ...


@dataclass(frozen=True, kw_only=True)
class PseudoSkillParams:
    """params:pseudo_skills."""

    k: int  # clusters; at most one for each distinct row of the pool
    iterations: int
    restarts: int  # the one with the highest total similarity is taken
    seed: int

    def __post_init__(self) -> None:
        for key, least in (("k", 1), ("iterations", 1), ("restarts", 1), ("seed", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"pseudo_skills.{key} must be at least {least}, got {getattr(self, key)}")


def find_pseudo_skills(
    features: Features, pool_rows: pd.DataFrame, params: PseudoSkillParams
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The clusters table and a card for each cluster.

    Clusters: sample_id, cluster (0 = the largest; of equally large ones, that with the smallest sample_id),
    similarity (cosine to its centroid). No cluster is empty; if the pool has fewer distinct rows than k there
    are fewer clusters, and the cards' `note` and a warning say so. Cards: see `describe`.

    `ValueError` for a gradient of zeros or one that is not finite, named with its sample.
    """
    labels, similarity, note = _spherical_kmeans(features, params)
    clusters = pd.DataFrame(
        {"sample_id": features.sample_ids.astype(np.int64), "cluster": labels, "similarity": similarity}
    )
    if note:
        log.warning(note)
    return clusters, describe(clusters, pool_rows, features.scores).assign(note=note)


def describe(clusters: pd.DataFrame, pool_rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """A card for each cluster, for display: known labels decide nothing.

    cluster, size, cohesion (mean cosine to the centroid), top_sources ("vqa 62 %, …"), top_skill,
    top_skill_share, mean_<column> of each column of the scores, nearest (ids of the rows nearest to the
    centroid, the nearest first).
    """
    rows = clusters.merge(pool_rows[["sample_id", "source", "skill"]], on="sample_id", validate="one_to_one")
    rows = rows.merge(scores, on="sample_id", validate="one_to_one")
    assert len(rows) == len(clusters)
    measured = [column for column in scores.columns if column != "sample_id"]
    grouped = rows.groupby("cluster")
    cards = pd.DataFrame({"size": grouped.size(), "cohesion": grouped["similarity"].mean()})
    sources, skills = _shares(rows, "source"), _shares(rows, "skill")
    sources["words"] = sources["source"] + " " + (100 * sources["share"]).round().astype(int).astype(str) + " %"
    cards["top_sources"] = sources[sources["place"] < TOP].groupby("cluster")["words"].agg(", ".join)
    first = skills[skills["place"] == 0].set_index("cluster")
    cards["top_skill"], cards["top_skill_share"] = first["skill"], first["share"]
    cards = cards.join(grouped[measured].mean().add_prefix("mean_"))
    nearest = rows.sort_values(["cluster", "similarity", "sample_id"], ascending=[True, False, True])
    cards["nearest"] = nearest.groupby("cluster").head(NEAREST).groupby("cluster")["sample_id"].agg(list)
    return cards.reset_index()


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


def k_sweep(features: Features, ks: Sequence[int], seed: int, iterations: int = 20, restarts: int = 1) -> pd.DataFrame:
    """For each k: clusters found, within (sum of squared distances to own centroid), silhouette, note.

    The silhouette (cosine) is that of at most 2,000 rows drawn by `seed`; where it is undefined it is missing
    and `note` says why.
    """
    n = len(features.sample_ids)
    sample = np.sort(np.random.default_rng([seed]).permutation(n)[:SILHOUETTE_ROWS])
    rows = features.gradients[sample].astype(np.float32)
    lines: list[dict[str, Any]] = []
    for k in ks:
        params = PseudoSkillParams(k=k, iterations=iterations, restarts=restarts, seed=seed)
        labels, similarity, note = _spherical_kmeans(features, params)
        distinct = len(np.unique(labels[sample]))
        silhouette = None
        if 2 <= distinct < len(sample):
            silhouette = float(silhouette_score(rows, labels[sample], metric="cosine"))
        else:
            note += ("; " if note else "") + f"silhouette undefined: {distinct} clusters in {len(sample)} rows"
        within = float((2 - 2 * similarity.astype(np.float64)).sum())
        lines.append(
            {
                "k": k,
                "clusters": int(labels.max()) + 1,
                "within": within,
                "silhouette": silhouette,
                "note": note,
            }
        )
    table = pd.DataFrame(lines, columns=["k", "clusters", "within", "silhouette", "note"])
    return table.astype({"k": int, "clusters": int, "within": float, "silhouette": "Float64", "note": "str"})


def _spherical_kmeans(
    features: Features, params: PseudoSkillParams
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, " n"], str]:
    """Canonical labels, cosines to the own centroids, and why there are fewer clusters than k (or "")."""
    sample_ids, gradients = features.sample_ids, features.gradients
    assert gradients.dtype in (np.float16, np.float32)
    if len(sample_ids) == 0:
        raise ValueError("pseudo-skills need at least one row, but the pool is empty")
    _check_rows(gradients, sample_ids)
    k = min(params.k, len(sample_ids))
    note = f"pseudo_skills.k = {params.k}, but the pool has {len(sample_ids)} rows" if k < params.k else ""
    best, labels, similarity = -np.inf, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    for restart in range(params.restarts):
        centroids = _first_centroids(gradients, k, np.random.default_rng([params.seed, restart]))
        centroids = _lloyd(gradients, centroids, params.iterations, params.seed)
        tried = _repair(gradients, centroids)
        total = float(tried[1].sum(dtype=np.float64))
        if total > best:
            best, (labels, similarity) = total, tried
    found = len(np.unique(labels))
    if found < k:
        note = f"pseudo_skills.k = {params.k}, but the pool has only {found} distinct rows"
    return _by_size(labels, sample_ids), similarity, note


def _blocks(
    gradients: Float[np.ndarray, "n dim"],
) -> Iterator[tuple[slice, Float32[np.ndarray, "block dim"]]]:
    """Blocks of rows in single precision, of length 1 where they are not of length 0."""
    for start in range(0, len(gradients), BLOCK):
        rows = np.array(gradients[start : start + BLOCK], dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        yield slice(start, start + len(rows)), rows / np.where(lengths == 0, 1, lengths)


def _check_rows(gradients: Float[np.ndarray, "n dim"], sample_ids: Int[np.ndarray, " n"]) -> None:
    zero: list[int] = []
    broken: list[int] = []
    for block, rows in _blocks(gradients):
        lengths = np.abs(rows).sum(axis=1)
        zero += sample_ids[block][lengths == 0].tolist()
        broken += sample_ids[block][~np.isfinite(lengths)].tolist()
    if broken:
        raise ValueError(f"gradient feature is not finite for {len(broken)} samples, first {broken[:5]}")
    if zero:
        raise ValueError(f"gradient feature is all zeros for {len(zero)} samples, first {zero[:5]}")


def _first_centroids(
    gradients: Float[np.ndarray, "n dim"], k: int, rng: np.random.Generator
) -> Float32[np.ndarray, "k dim"]:
    """Greedy k-means++ (Arthur & Vassilvitskii 2007): of a few rows drawn by their distance to the centroids
    so far, the one that leaves the least total distance is the next.
    """
    chosen = np.sort(rng.permutation(len(gradients))[: max(BLOCK, 8 * k)])
    rows = np.concatenate([part for _, part in _blocks(gradients[chosen])])
    picks = np.full(k, rng.integers(len(rows)))
    distance = _distance(rows, picks[:1])[:, 0]
    trials = 2 + int(np.log(k))
    for place in range(1, k):
        reach = np.cumsum(distance)
        if reach[-1] == 0:  # no other distinct row is left here; a centroid that stays empty is repaired later
            break
        drawn = np.searchsorted(reach, rng.random(trials) * reach[-1], side="right")
        left = np.minimum(distance[:, None], _distance(rows, drawn))
        best = int(np.argmin(left.sum(axis=0)))
        picks[place], distance = drawn[best], left[:, best]
    return rows[picks]


def _distance(rows: Float32[np.ndarray, "n dim"], picks: Int[np.ndarray, " m"]) -> Float[np.ndarray, "n m"]:
    """Cosine distances, rounded so that the threads of BLAS change no draw; 0 between equal rows."""
    distance = np.round(1 - (rows @ rows[picks].T).astype(np.float64), 6)
    return np.where(distance <= DISTINCT, 0, distance)


def _lloyd(
    gradients: Float[np.ndarray, "n dim"], centroids: Float32[np.ndarray, "k dim"], iterations: int, seed: int
) -> Float32[np.ndarray, "k dim"]:
    """The k-means of faiss from these centroids on all rows; it sums in row order at any number of threads."""
    faiss = _faiss()
    k, dim = centroids.shape
    clustering = faiss.Clustering(dim, k)
    clustering.niter, clustering.seed, clustering.spherical = iterations, seed, True
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(gradients)
    faiss.copy_array_to_vector(centroids.ravel(), clustering.centroids)
    half = gradients.dtype == np.float16
    codec = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16) if half else faiss.IndexFlat(dim)
    codes = np.ascontiguousarray(gradients).view(np.uint8)
    clustering.train_encoded(codes, codec, faiss.IndexFlatIP(dim))
    return faiss.vector_to_array(clustering.centroids).reshape(k, dim).copy()


def _assign(
    gradients: Float[np.ndarray, "n dim"], centroids: Float32[np.ndarray, "k dim"]
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """The nearest centroid of each row and the cosine to it."""
    index = _faiss().IndexFlatIP(centroids.shape[1])
    index.add(centroids)
    labels = np.zeros(len(gradients), dtype=np.int64)
    similarity = np.zeros(len(gradients), dtype=np.float32)
    for block, rows in _blocks(gradients):
        found, nearest = index.search(rows, 1)
        labels[block], similarity[block] = nearest[:, 0], found[:, 0].clip(-1, 1)
    return labels, similarity


def _repair(
    gradients: Float[np.ndarray, "n dim"], centroids: Float32[np.ndarray, "k dim"]
) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """Assignments in which every centroid has a row: empty ones move to the rows that fit worst.

    Each round of moves raises the total similarity, so this ends; it ends early when every row lies on its
    centroid, since then there are no more distinct rows than clusters.
    """
    centroids = centroids.copy()
    while True:
        labels, similarity = _assign(gradients, centroids)
        empty = np.setdiff1d(np.arange(len(centroids)), labels)
        farthest = np.argsort(similarity, kind="stable")[: len(empty)]
        farthest = farthest[similarity[farthest] <= 1 - DISTINCT]
        if len(farthest) == 0:
            return labels, similarity
        centroids[empty[: len(farthest)]] = np.concatenate([rows for _, rows in _blocks(gradients[farthest])])


def _by_size(labels: Int[np.ndarray, " n"], sample_ids: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The same clusters, numbered by size (0 = the largest), equally large ones by smallest sample_id."""
    _, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    smallest = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(smallest, code, sample_ids)
    number = np.empty(len(sizes), dtype=np.int32)
    number[np.lexsort((smallest, -sizes))] = np.arange(len(sizes))
    return number[code]


def _shares(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each value's share of its cluster and its place (0 = most frequent; ties by name), by place."""
    counts = rows.groupby(["cluster", column]).size().rename("count").reset_index()
    counts["share"] = counts["count"] / counts.groupby("cluster")["count"].transform("sum")
    counts = counts.sort_values(["cluster", "count", column], ascending=[True, False, True])
    return counts.assign(place=counts.groupby("cluster").cumcount())


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise ImportError('pseudo-skills need faiss: pip install "adapt-infinity[cpu]"') from None
    return faiss

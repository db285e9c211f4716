"""Spherical k-means: rows and centroids have length 1 (Dhillon & Modha 2001). The rows need not fit in memory.

A row is compared with the centroids only if its nearest one may have changed. For this, k-means keeps for each row an
upper bound of the distance to its own centroid and a lower bound of the distance to all others, and loosens both by the
distances that the centroids move (Hamerly 2010). The sum of each cluster's rows is kept in double precision and updated
by the rows that changed cluster. The result is that of Lloyd's iteration, and late iterations cost almost nothing.

Memory: a few numbers per row, k · dim numbers, and the pieces that are being computed (unit_rows.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from adapt_infinity.pseudo_skills.backends import FindNearest, Searcher
from adapt_infinity.pseudo_skills.seeding import DISTINCT, draw, first_centroids, most_needed
from adapt_infinity.pseudo_skills.unit_rows import MapPieces, UnitRows

# Restarts are compared on a sample, and first centroids are drawn from a smaller one. Each has so many rows, or so many
# per centroid if that is more.
SAMPLE_ROWS, SAMPLE_ROWS_PER_CENTROID = 8_192, 64
SEED_ROWS, SEED_ROWS_PER_CENTROID = 4_096, 8
MIN_LENGTH = 1e-5  # a sum of rows that is shorter than this has no direction


@dataclass(frozen=True)
class KMeansParams:
    """How centroids are computed: the tools and the parameters of `pseudo_skills`."""

    map_pieces: MapPieces
    searcher: Searcher
    device: torch.device
    iterations: int  # largest number of Lloyd's iterations
    tolerance: float  # stop when the total similarity rises by less than this share of itself
    restarts: int  # starts that are compared on a sample
    batch: int  # rows per mini-batch; 0 = Lloyd's iterations over all rows


@dataclass(frozen=True)
class Clustering:
    """The centroids, the number of each row's nearest centroid, and the cosine to it."""

    centroids: Float32[Tensor, "k dim"]
    labels: Int64[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]


@dataclass
class _Partition:
    """The state of the iteration. Distances are Euclidean between points of length 1."""

    labels: Int64[np.ndarray, " n"]  # number of the own centroid; −1: none yet
    upper: Float32[np.ndarray, " n"]  # upper bound of the distance to the own centroid
    lower: Float32[np.ndarray, " n"]  # lower bound of the distance to any other centroid
    sums: Float[Tensor, "k dim"]  # of each cluster's rows, double precision
    sizes: Int64[np.ndarray, " k"]

    @property
    def total(self) -> float:
        """Sum over rows of the cosine to the mean of their cluster."""
        return float(self.sums.norm(dim=1).sum())

    def loosen_bounds(self, drift: Float[np.ndarray, " k"]) -> None:
        """Keep the bounds true after each centroid has moved by `drift`."""
        largest = int(drift.argmax())
        others = np.full(len(drift), drift[largest])
        others[largest] = np.delete(drift, largest).max(initial=0)
        self.upper += drift.astype(np.float32)[self.labels]
        self.lower -= others.astype(np.float32)[self.labels]


def spherical_kmeans(
    rows: UnitRows, k: int, seed: int, kmeans_params: KMeansParams, given: Float32[Tensor, "g dim"] | None = None
) -> Clustering:
    """Cluster the rows: find the best of several starts on a sample, improve it by swaps, then iterate over all rows.

    given: centroids to start from. There is then one start: these, and k − g more that are drawn where these are far.

    No cluster is empty unless there are fewer distinct rows than k. `ValueError` if k is not between 1 and the number
    of rows.
    """
    if not 1 <= k <= len(rows):
        raise ValueError(f"k-means: k must be between 1 and the number of rows, {len(rows)}, got {k}")
    rng = np.random.default_rng([seed])
    sample = rows.subset(draw(len(rows), max(SAMPLE_ROWS, SAMPLE_ROWS_PER_CENTROID * k), rng))
    seeds = sample.take(draw(len(sample), max(SEED_ROWS, SEED_ROWS_PER_CENTROID * k), rng))
    sample.release()
    if given is not None:
        start = first_centroids(seeds, k, rng, given)
    else:
        tries = [
            first_centroids(seeds, k, np.random.default_rng([seed, t]), None) for t in range(kmeans_params.restarts)
        ]
        tried = [_lloyd(sample, centroids, kmeans_params) for centroids in tries]
        best = max(tried, key=lambda result: result[1].total)  # the first of equal ones
        start = _improve_by_swaps(sample, seeds, *best, rng, kmeans_params)
        del tried, best
    del seeds
    if not kmeans_params.batch:
        return _fill_empty_clusters(rows, *_lloyd(rows, start, kmeans_params), kmeans_params)
    centroids = _mini_batches(rows, start, rng, kmeans_params)
    return _fill_empty_clusters(rows, centroids, _unassigned(rows, centroids, kmeans_params), kmeans_params)


def assign(rows: UnitRows, centroids: Float32[Tensor, "k dim"], kmeans_params: KMeansParams) -> Int64[np.ndarray, " n"]:
    """The number of each row's nearest centroid."""
    partition = _unassigned(rows, centroids, kmeans_params)
    _reassign(rows, partition, centroids, kmeans_params)
    return partition.labels


def means(
    rows: UnitRows, labels: Int[np.ndarray, " n"], k: int, kmeans_params: KMeansParams
) -> tuple[Float32[Tensor, "k dim"], Int64[np.ndarray, " k"]]:
    """The mean direction (length 1) and the number of each cluster's rows; rows with label −1 are leaving out.

    The direction of a cluster without rows, or whose rows cancel each other, is all zeros.
    """
    sums = torch.zeros(k, rows.dim, dtype=torch.float64)

    def add(piece: slice) -> tuple[Tensor, Tensor]:
        labelled = np.flatnonzero(labels[piece] >= 0)
        return _sums(rows.take(piece.start + labelled), torch.from_numpy(labels[piece][labelled].astype(np.int64)))

    for touched, part in kmeans_params.map_pieces(rows, add):
        sums[touched] += part.double()
    return _directions(sums, torch.zeros(k, rows.dim)), np.bincount(labels[labels >= 0], minlength=k)


def _unassigned(rows: UnitRows, centroids: Float32[Tensor, "k dim"], kmeans_params: KMeansParams) -> _Partition:
    n = len(rows)
    return _Partition(
        labels=np.full(n, -1, dtype=np.int64),
        upper=np.full(n, np.inf, dtype=np.float32),
        lower=np.zeros(n, dtype=np.float32),
        sums=torch.zeros(centroids.shape, dtype=torch.float64, device=kmeans_params.device),
        sizes=np.zeros(len(centroids), dtype=np.int64),
    )


def _lloyd(
    rows: UnitRows, centroids: Float32[Tensor, "k dim"], kmeans_params: KMeansParams
) -> tuple[Float32[Tensor, "k dim"], _Partition]:
    """Lloyd's iteration: the last centroids, and the partition of the rows among them."""
    partition, total = _unassigned(rows, centroids, kmeans_params), 0.0
    for moves in range(kmeans_params.iterations + 1):
        moved = _reassign(rows, partition, centroids, kmeans_params)
        before, total = total, partition.total
        converged = not moved or total - before <= kmeans_params.tolerance * total
        if moves == kmeans_params.iterations or (converged and partition.sizes.all()):
            break
        centroids = _move(rows, partition, centroids)
    return centroids, partition


def _improve_by_swaps(
    sample: UnitRows,
    seeds: Float32[Tensor, "m dim"],
    centroids: Float32[Tensor, "k dim"],
    partition: _Partition,
    rng: np.random.Generator,
    kmeans_params: KMeansParams,
) -> Float32[Tensor, "k dim"]:
    """Move the least needed centroids to rows that are far from any centroid, as long as the total similarity rises.

    Where skills have unequal sizes, a start gives several centroids to large skills and none to rare ones, and Lloyd's
    iteration cannot move a centroid from one to the other. A quarter of the centroids moves at first, and half as many
    after each attempt without a gain (after breathing k-means, Fritzke 2020, arXiv:2006.15666, with k-means++ in place
    of random offsets).
    """
    count = len(centroids) // 4
    while count:
        before = centroids.cpu()
        kept = before[most_needed(seeds, before, count)]
        moved, tried = _lloyd(sample, first_centroids(seeds, len(centroids), rng, kept), kmeans_params)
        if tried.total > partition.total * (1 + kmeans_params.tolerance):
            centroids, partition = moved, tried
        else:
            count //= 2
    return centroids


def _mini_batches(
    rows: UnitRows, centroids: Float32[Tensor, "k dim"], rng: np.random.Generator, kmeans_params: KMeansParams
) -> Float32[Tensor, "k dim"]:
    """Mini-batch k-means: one pass over the rows in random order (Sculley 2010).

    A centroid is the mean direction of all rows assigned to it so far, so its learning rate is 1 / their number.
    """
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=kmeans_params.device)
    order = rng.permutation(len(rows))
    for start in range(0, len(rows), kmeans_params.batch):
        batch = rows.subset(np.sort(order[start : start + kmeans_params.batch]))
        step = _unassigned(batch, centroids, kmeans_params)
        _reassign(batch, step, centroids, kmeans_params)
        sums += step.sums
        centroids = _directions(sums, centroids)
    return centroids


def _fill_empty_clusters(
    rows: UnitRows, centroids: Float32[Tensor, "k dim"], partition: _Partition, kmeans_params: KMeansParams
) -> Clustering:
    """Assign every row to its nearest centroid, and move centroids without rows to the rows with the lowest cosine.

    Each move raises the total similarity, so the loop ends. It also ends when every row equals its centroid, because
    there are then no more distinct rows than clusters.
    """
    while True:
        _reassign(rows, partition, centroids, kmeans_params)
        similarity = _similarity(rows, partition.labels, centroids, kmeans_params)
        farthest = np.argsort(similarity, kind="stable")[: int((partition.sizes == 0).sum())]
        farthest = farthest[similarity[farthest] <= 1 - DISTINCT]
        if len(farthest) == 0:
            return Clustering(centroids, partition.labels, similarity)
        moved = _move_empty(rows, partition, centroids, farthest)
        partition.loosen_bounds(_drift(centroids, moved))
        centroids = moved


def _reassign(
    rows: UnitRows, partition: _Partition, centroids: Float32[Tensor, "k dim"], kmeans_params: KMeansParams
) -> int:
    """Assign every row to its nearest centroid; returns how many rows changed cluster."""
    nearest, moved = kmeans_params.searcher(centroids, kmeans_params.device), 0

    def reassign_piece(piece: slice) -> tuple[int, Int64[np.ndarray, " k"], Tensor, Tensor] | None:
        return _reassign_piece(rows, piece, partition, nearest)

    for change in kmeans_params.map_pieces(rows, reassign_piece):
        if change is not None:
            count, sizes, touched, part = change
            partition.sums[touched] += part.double()
            partition.sizes += sizes
            moved += count
    return moved


def _reassign_piece(
    rows: UnitRows, piece: slice, partition: _Partition, nearest: FindNearest
) -> tuple[int, Int64[np.ndarray, " k"], Tensor, Tensor] | None:
    """Reassign those rows of a piece whose nearest centroid may have changed; None if no row changed cluster.

    Returns the number of rows that changed cluster, the changes of all sizes, the clusters whose sums change, and the
    changes of these sums.
    """
    doubtful = piece.start + np.flatnonzero(partition.upper[piece] >= partition.lower[piece])
    if len(doubtful) == 0:
        return None
    unit = rows.take(doubtful if len(doubtful) < piece.stop - piece.start else piece).to(partition.sums.device)
    labels, own_bound, others_bound = (tensor.cpu().numpy() for tensor in nearest(unit))
    before = partition.labels[doubtful]
    partition.labels[doubtful], partition.upper[doubtful] = labels, _distance(own_bound)
    partition.lower[doubtful] = _distance(others_bound)
    moved = np.flatnonzero(labels != before)
    if len(moved) == 0:
        return None
    k, leaving = len(partition.sizes), np.flatnonzero(before[moved] >= 0)
    sizes = np.bincount(labels[moved], minlength=k) - np.bincount(before[moved[leaving]], minlength=k)
    joined = unit if len(moved) == len(unit) else unit[torch.from_numpy(moved)]
    signed = joined if len(leaving) == 0 else torch.cat([joined, -joined[torch.from_numpy(leaving)]])
    return len(moved), sizes, *_sums(signed, torch.from_numpy(np.concatenate([labels[moved], before[moved[leaving]]])))


def _sums(unit: Float32[Tensor, "m dim"], labels: Int64[Tensor, " m"]) -> tuple[Tensor, Tensor]:
    """The distinct labels, and the sum of the rows of each, added in the order of the rows."""
    touched, position = torch.unique(labels, return_inverse=True)
    if unit.device.type == "cpu":
        return touched, torch.zeros(len(touched), unit.shape[1]).index_add_(0, position, unit)
    member = torch.nn.functional.one_hot(position, len(touched)).float().to(unit.device)
    return touched, member.T @ unit  # index_add_ has no fixed order on a GPU


def _move(rows: UnitRows, partition: _Partition, centroids: Float32[Tensor, "k dim"]) -> Float32[Tensor, "k dim"]:
    """Each centroid moves to the mean of its rows; one without rows moves to a row that is far from its centroid."""
    moved = _directions(partition.sums, centroids)
    empty = int((partition.sizes == 0).sum())
    if empty:
        farthest = np.argsort(-partition.upper, kind="stable")[:empty]
        moved = _move_empty(rows, partition, moved, farthest)
    partition.loosen_bounds(_drift(centroids, moved))
    return moved


def _move_empty(
    rows: UnitRows, partition: _Partition, centroids: Float32[Tensor, "k dim"], with_rows: Int[np.ndarray, " m"]
) -> Float32[Tensor, "k dim"]:
    empty = np.flatnonzero(partition.sizes == 0)[: len(with_rows)]
    moved = centroids.clone()
    moved[torch.from_numpy(empty)] = rows.take(with_rows).to(centroids.device)
    rows.release()
    return moved


def _directions(sums: Float[Tensor, "k dim"], otherwise: Float32[Tensor, "k dim"]) -> Float32[Tensor, "k dim"]:
    lengths = sums.norm(dim=1, keepdim=True)
    return torch.where(lengths > MIN_LENGTH, sums / lengths.clamp_min(MIN_LENGTH), otherwise.to(sums)).float()


def _drift(before: Float32[Tensor, "k dim"], after: Float32[Tensor, "k dim"]) -> Float[np.ndarray, " k"]:
    """The distance that each centroid moved, rounded up."""
    return (after.double() - before.to(after).double()).norm(dim=1).cpu().numpy() * (1 + 1e-6) + 1e-7


def _distance(cosine: Float32[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
    """The Euclidean distance between points of length 1."""
    return np.sqrt(np.maximum(2 - 2 * cosine, 0))


def _similarity(
    rows: UnitRows, labels: Int64[np.ndarray, " n"], centroids: Float32[Tensor, "k dim"], kmeans_params: KMeansParams
) -> Float32[np.ndarray, " n"]:
    similarity = np.empty(len(rows), dtype=np.float32)

    def measure(piece: slice) -> None:
        own = centroids[torch.from_numpy(labels[piece])]
        similarity[piece] = (rows.take(piece).to(own.device) * own).sum(dim=1).cpu().numpy()

    for _ in kmeans_params.map_pieces(rows, measure):
        pass
    return similarity.clip(-1, 1)

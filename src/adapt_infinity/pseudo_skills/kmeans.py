"""Spherical k-means: unit rows, unit centroids (Dhillon & Modha 2001), streaming over rows that need not fit in memory.

A row is compared with the centroids only if its nearest may have changed: the chord from a row to its own centroid and
that to every other one are bounded, and bounds move with the centroids (Hamerly 2010). Sums per cluster are kept in
double precision and changed by what moved. Both leave the result what Lloyd's iteration gives, and make late iterations
nearly free.

Memory: a few numbers a row, k · dim, and the pieces under way (unit_rows.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from adapt_infinity.pseudo_skills.backends import Nearest, Searcher
from adapt_infinity.pseudo_skills.seeding import DISTINCT, draw, first_centroids, most_needed
from adapt_infinity.pseudo_skills.unit_rows import Each, UnitRows

SAMPLE, SAMPLE_A_CENTROID = 8_192, 64  # rows on which restarts are compared: the larger of the two
SEEDS, SEEDS_A_CENTROID = 4_096, 8  # rows among which first centroids are sought
CANCELLED = 1e-5  # rows whose mean is shorter than this point nowhere


@dataclass(frozen=True)
class KMeansParams:
    """How centroids are sought."""

    each: Each
    searcher: Searcher
    device: torch.device
    iterations: int  # at most
    tolerance: float  # stop when the total similarity gains less than this share of itself
    restarts: int
    batch: int  # rows of a mini-batch step; 0 = Lloyd's iterations over all rows


@dataclass(frozen=True)
class Clustering:
    """Which centroid each row belongs to, and the cosine to it."""

    centroids: Float32[Tensor, "k dim"]
    labels: Int64[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]


@dataclass
class _Partition:
    """Labels (−1: none yet), bounds of chords, and what the clusters' rows add up to."""

    labels: Int64[np.ndarray, " n"]
    upper: Float32[np.ndarray, " n"]  # the own centroid is not farther than this
    lower: Float32[np.ndarray, " n"]  # no other centroid is nearer than this
    sums: Float[Tensor, "k dim"]
    sizes: Int64[np.ndarray, " k"]

    @property
    def total(self) -> float:
        """Total similarity of the rows to the means of their clusters."""
        return float(self.sums.norm(dim=1).sum())

    def follow(self, drift: Float[np.ndarray, " k"]) -> None:
        """Centroids have moved by so much."""
        most = int(drift.argmax())
        others = np.full(len(drift), drift[most])
        others[most] = np.delete(drift, most).max(initial=0)
        self.upper += drift.astype(np.float32)[self.labels]
        self.lower -= others.astype(np.float32)[self.labels]


def spherical_kmeans(
    rows: UnitRows, k: int, seed: int, search: KMeansParams, given: Float32[Tensor, "g dim"] | None = None
) -> Clustering:
    """The best of several starts on a sample, bettered by swaps, then all rows.

    No cluster is empty while there are distinct rows left.

    With `given` centroids there is one start: these, and k − g more where they cover worst.
    """
    assert 1 <= k <= len(rows)
    rng = np.random.default_rng([seed])
    sample = rows.subset(draw(len(rows), max(SAMPLE, SAMPLE_A_CENTROID * k), rng))
    seeds = sample.take(draw(len(sample), max(SEEDS, SEEDS_A_CENTROID * k), rng))
    sample.release()
    if given is not None:
        start = first_centroids(seeds, k, rng, given)
    else:
        tries = [first_centroids(seeds, k, np.random.default_rng([seed, t]), None) for t in range(search.restarts)]
        tried = [_lloyd(sample, centroids, search) for centroids in tries]
        best = max(tried, key=lambda found: found[1].total)  # of equals the first
        start = _swap(sample, seeds, *best, rng, search)
        del tried, best
    del seeds
    if not search.batch:
        return _settle(rows, *_lloyd(rows, start, search), search)
    centroids = _mini_batches(rows, start, rng, search)
    return _settle(rows, centroids, _unassigned(rows, centroids, search), search)


def assign(rows: UnitRows, centroids: Float32[Tensor, "k dim"], search: KMeansParams) -> Int64[np.ndarray, " n"]:
    """The nearest centroid of each row."""
    partition = _unassigned(rows, centroids, search)
    _reassign(rows, partition, centroids, search)
    return partition.labels


def means(
    rows: UnitRows, labels: Int[np.ndarray, " n"], k: int, search: KMeansParams
) -> tuple[Float32[Tensor, "k dim"], Int64[np.ndarray, " k"]]:
    """The direction of each cluster's rows, and how many they are; a label of −1 is of no cluster.

    Of a cluster that has no row, or whose rows cancel each other, the direction is zeros.
    """
    sums = torch.zeros(k, rows.dim, dtype=torch.float64)

    def add(here: slice) -> tuple[Tensor, Tensor]:
        mine = np.flatnonzero(labels[here] >= 0)
        return _sums(rows.take(here.start + mine), torch.from_numpy(labels[here][mine].astype(np.int64)))

    for touched, part in search.each(rows, add):
        sums[touched] += part.double()
    return _directions(sums, torch.zeros(k, rows.dim)), np.bincount(labels[labels >= 0], minlength=k)


def _unassigned(rows: UnitRows, centroids: Float32[Tensor, "k dim"], search: KMeansParams) -> _Partition:
    n = len(rows)
    return _Partition(
        labels=np.full(n, -1, dtype=np.int64),
        upper=np.full(n, np.inf, dtype=np.float32),
        lower=np.zeros(n, dtype=np.float32),
        sums=torch.zeros(centroids.shape, dtype=torch.float64, device=search.device),
        sizes=np.zeros(len(centroids), dtype=np.int64),
    )


def _lloyd(
    rows: UnitRows, centroids: Float32[Tensor, "k dim"], search: KMeansParams
) -> tuple[Float32[Tensor, "k dim"], _Partition]:
    """Centroids after at most so many moves, and the rows at the nearest of them."""
    partition, total = _unassigned(rows, centroids, search), 0.0
    for moves in range(search.iterations + 1):
        moved = _reassign(rows, partition, centroids, search)
        before, total = total, partition.total
        settled = not moved or total - before <= search.tolerance * total
        if moves == search.iterations or (settled and partition.sizes.all()):
            break
        centroids = _move(rows, partition, centroids)
    return centroids, partition


def _swap(
    sample: UnitRows,
    seeds: Float32[Tensor, "m dim"],
    centroids: Float32[Tensor, "k dim"],
    partition: _Partition,
    rng: np.random.Generator,
    search: KMeansParams,
) -> Float32[Tensor, "k dim"]:
    """The centroids after those that are least needed have moved to where rows are served worst, while that helps.

    Where skills are of unequal size a start gives large ones several centroids and rare ones none, and Lloyd's moves
    cannot carry a centroid across. Many move at first, then half as many whenever that has brought nothing (after
    breathing k-means, Fritzke 2020, arXiv:2006.15666, with k-means++ in place of jitter).
    """
    count = len(centroids) // 4
    while count:
        here = centroids.cpu()
        kept = here[most_needed(seeds, here, count)]
        moved, tried = _lloyd(sample, first_centroids(seeds, len(centroids), rng, kept), search)
        if tried.total > partition.total * (1 + search.tolerance):
            centroids, partition = moved, tried
        else:
            count //= 2
    return centroids


def _mini_batches(
    rows: UnitRows, centroids: Float32[Tensor, "k dim"], rng: np.random.Generator, search: KMeansParams
) -> Float32[Tensor, "k dim"]:
    """One pass in random order, a batch a step (Sculley 2010).

    A centroid is the direction of all rows that it has been given so far, so its rate is 1 / their number.
    """
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=search.device)
    order = rng.permutation(len(rows))
    for start in range(0, len(rows), search.batch):
        batch = rows.subset(np.sort(order[start : start + search.batch]))
        step = _unassigned(batch, centroids, search)
        _reassign(batch, step, centroids, search)
        sums += step.sums
        centroids = _directions(sums, centroids)
    return centroids


def _settle(
    rows: UnitRows, centroids: Float32[Tensor, "k dim"], partition: _Partition, search: KMeansParams
) -> Clustering:
    """Every row at its nearest centroid and every centroid with a row: empty ones move to the rows that fit worst.

    Each move raises the total similarity, so this ends; it ends early when every row lies on its centroid, since
    then there are no more distinct rows than clusters.
    """
    while True:
        _reassign(rows, partition, centroids, search)
        similarity = _similarity(rows, partition.labels, centroids, search)
        farthest = np.argsort(similarity, kind="stable")[: int((partition.sizes == 0).sum())]
        farthest = farthest[similarity[farthest] <= 1 - DISTINCT]
        if len(farthest) == 0:
            return Clustering(centroids, partition.labels, similarity)
        moved = _refill(rows, partition, centroids, farthest)
        partition.follow(_drift(centroids, moved))
        centroids = moved


def _reassign(rows: UnitRows, partition: _Partition, centroids: Float32[Tensor, "k dim"], search: KMeansParams) -> int:
    """Bring every row to its nearest centroid; returns how many rows moved."""
    nearest, moved = search.searcher(centroids, search.device), 0

    def visit(here: slice) -> tuple[int, Int64[np.ndarray, " k"], Tensor, Tensor] | None:
        return _visit(rows, here, partition, nearest)

    for change in search.each(rows, visit):
        if change is not None:
            count, sizes, touched, part = change
            partition.sums[touched] += part.double()
            partition.sizes += sizes
            moved += count
    return moved


def _visit(
    rows: UnitRows, here: slice, partition: _Partition, nearest: Nearest
) -> tuple[int, Int64[np.ndarray, " k"], Tensor, Tensor] | None:
    """A piece's rows whose nearest centroid is in doubt; how sizes and sums change, if they do."""
    doubtful = here.start + np.flatnonzero(partition.upper[here] >= partition.lower[here])
    if len(doubtful) == 0:
        return None
    unit = rows.take(doubtful if len(doubtful) < here.stop - here.start else here).to(partition.sums.device)
    found, at_least, at_most = (tensor.cpu().numpy() for tensor in nearest(unit))
    before = partition.labels[doubtful]
    partition.labels[doubtful], partition.upper[doubtful] = found, _chord(at_least)
    partition.lower[doubtful] = _chord(at_most)
    moved = np.flatnonzero(found != before)
    if len(moved) == 0:
        return None
    k, left = len(partition.sizes), np.flatnonzero(before[moved] >= 0)
    sizes = np.bincount(found[moved], minlength=k) - np.bincount(before[moved[left]], minlength=k)
    joined = unit if len(moved) == len(unit) else unit[torch.from_numpy(moved)]
    signed = joined if len(left) == 0 else torch.cat([joined, -joined[torch.from_numpy(left)]])
    return len(moved), sizes, *_sums(signed, torch.from_numpy(np.concatenate([found[moved], before[moved[left]]])))


def _sums(unit: Float32[Tensor, "m dim"], labels: Int64[Tensor, " m"]) -> tuple[Tensor, Tensor]:
    """Which clusters there are among the labels, and the sum of each one's rows, added in order."""
    touched, place = torch.unique(labels, return_inverse=True)
    if unit.device.type == "cpu":
        return touched, torch.zeros(len(touched), unit.shape[1]).index_add_(0, place, unit)
    member = torch.nn.functional.one_hot(place, len(touched)).float().to(unit.device)
    return touched, member.T @ unit  # adding by index has no fixed order on a GPU


def _move(rows: UnitRows, partition: _Partition, centroids: Float32[Tensor, "k dim"]) -> Float32[Tensor, "k dim"]:
    """Each centroid to the mean of its rows, one without any to a row that lies far from its own."""
    moved = _directions(partition.sums, centroids)
    empty = int((partition.sizes == 0).sum())
    if empty:
        farthest = np.argsort(-partition.upper, kind="stable")[:empty]
        moved = _refill(rows, partition, moved, farthest)
    partition.follow(_drift(centroids, moved))
    return moved


def _refill(
    rows: UnitRows, partition: _Partition, centroids: Float32[Tensor, "k dim"], with_rows: Int[np.ndarray, " m"]
) -> Float32[Tensor, "k dim"]:
    empty = np.flatnonzero(partition.sizes == 0)[: len(with_rows)]
    moved = centroids.clone()
    moved[torch.from_numpy(empty)] = rows.take(with_rows).to(centroids.device)
    rows.release()
    return moved


def _directions(sums: Float[Tensor, "k dim"], otherwise: Float32[Tensor, "k dim"]) -> Float32[Tensor, "k dim"]:
    lengths = sums.norm(dim=1, keepdim=True)
    return torch.where(lengths > CANCELLED, sums / lengths.clamp_min(CANCELLED), otherwise.to(sums)).float()


def _drift(before: Float32[Tensor, "k dim"], after: Float32[Tensor, "k dim"]) -> Float[np.ndarray, " k"]:
    """How far each centroid moved, rounded up."""
    return (after.double() - before.to(after).double()).norm(dim=1).cpu().numpy() * (1 + 1e-6) + 1e-7


def _chord(cosine: Float32[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
    return np.sqrt(np.maximum(2 - 2 * cosine, 0))


def _similarity(
    rows: UnitRows, labels: Int64[np.ndarray, " n"], centroids: Float32[Tensor, "k dim"], search: KMeansParams
) -> Float32[np.ndarray, " n"]:
    similarity = np.empty(len(rows), dtype=np.float32)

    def measure(here: slice) -> None:
        own = centroids[torch.from_numpy(labels[here])]
        similarity[here] = (rows.take(here).to(own.device) * own).sum(dim=1).cpu().numpy()

    for _ in search.each(rows, measure):
        pass
    return similarity.clip(-1, 1)

"""First centroids of k-means: greedy k-means++ (Arthur & Vassilvitskii 2007), on rows that fit in memory."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

DISTINCT = 1e-6  # two rows are distinct if 1 − cosine is larger than this


def first_centroids(
    rows: Float32[Tensor, "m dim"],
    k: int,
    rng: np.random.Generator,
    given: Float32[Tensor, "g dim"] | None = None,
) -> Float32[Tensor, "k dim"]:
    """Choose k centroids of length 1: the `given` ones, then k − g of the rows.

    For each new centroid a few rows are drawn with probabilities in proportion to their distance to the centroids so
    far; the one that leaves the smallest total distance is taken. With fewer distinct rows than k some centroids are
    equal; k-means repairs clusters that stay empty.
    """
    given = rows[:0] if given is None else given
    picks = [int(rng.integers(len(rows)))] if len(given) == 0 else []
    distance = _distance(rows, given if len(given) else rows[picks]).amin(dim=0)
    trials = 2 + int(np.log(k))
    for _ in range(k - len(given) - len(picks)):
        cumulative = np.cumsum(distance.numpy())
        if cumulative[-1] == 0:
            picks = picks + [picks[-1] if picks else 0] * (k - len(given) - len(picks))
            break
        drawn = torch.from_numpy(np.searchsorted(cumulative, rng.random(trials) * cumulative[-1], side="right"))
        remaining = torch.minimum(distance, _distance(rows, rows[drawn]))
        best = int(remaining.sum(dim=1).argmin())
        picks, distance = [*picks, int(drawn[best])], remaining[best]
    return torch.cat([given, rows[picks]])


def most_needed(
    rows: Float32[Tensor, "m dim"], centroids: Float32[Tensor, "k dim"], removable: int
) -> Int[np.ndarray, " kept"]:
    """Numbers of the centroids that are kept when up to `removable` of them are removed.

    Removed are those whose rows lose the least total cosine when they go to their second nearest centroid. If the rows
    of two centroids would go to each other, only one of the two is removed.
    """
    near = (rows @ centroids.T).topk(2, dim=1)
    own, second = near.indices.T
    k = len(centroids)
    loss = torch.zeros(k, dtype=torch.float64).index_add_(0, own, (near.values[:, 0] - near.values[:, 1]).double())
    # moves[a, b]: how many rows go to centroid b when a is removed
    moves = torch.zeros(k, k, dtype=torch.int64).index_put_((own, second), torch.ones(1).long(), accumulate=True)
    kept = np.ones(k, dtype=bool)
    needed = np.zeros(k, dtype=bool)
    for centroid in np.argsort(loss.numpy(), kind="stable").tolist():
        if removable and not needed[centroid]:
            kept[centroid], removable = False, removable - 1
            if moves[centroid].any():  # the centroid has rows in this sample
                needed[int(moves[centroid].argmax())] = True
    return np.flatnonzero(kept)


def draw(n: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, " drawn"]:
    """At most `count` of the numbers 0 to n − 1, without replacement, ascending."""
    return np.arange(n) if n <= count else np.sort(rng.permutation(n)[:count])


def _distance(rows: Float32[Tensor, "m dim"], centroids: Float32[Tensor, "c dim"]) -> Float[Tensor, "c m"]:
    """1 − cosine; 0 between equal rows. `centroids @ rows.T` is several times faster than its transpose."""
    distance = 1 - (centroids @ rows.T).double()
    return distance.where(distance > DISTINCT, 0)

"""First centroids: greedy k-means++ (Arthur & Vassilvitskii 2007), on as many rows as fit into memory."""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

DISTINCT = 1e-6  # rows whose cosine is closer to 1 than this are one row


def first_centroids(
    rows: Float32[Tensor, "m dim"],
    k: int,
    rng: np.random.Generator,
    given: Float32[Tensor, "g dim"] | None = None,
) -> Float32[Tensor, "k dim"]:
    """The given centroids and k - g rows: of a few drawn by their distance to the centroids so far, each time the
    one that leaves the least total distance.

    With fewer distinct rows than k some centroids are alike; those that stay empty are repaired later.
    """
    have = rows[:0] if given is None else given
    first = [int(rng.integers(len(rows)))] if len(have) == 0 else []
    start = rows[first] if first else have
    distance = _distance(rows, start).amin(dim=0)
    trials = 2 + int(np.log(k))
    picks = first
    for _ in range(k - len(have) - len(first)):
        reach = np.cumsum(distance.numpy())
        if reach[-1] == 0:
            picks = picks + [picks[-1] if picks else 0] * (k - len(have) - len(picks))
            break
        drawn = torch.from_numpy(np.searchsorted(reach, rng.random(trials) * reach[-1], side="right"))
        left = torch.minimum(distance, _distance(rows, rows[drawn]))
        best = int(left.sum(dim=1).argmin())
        picks, distance = [*picks, int(drawn[best])], left[best]
    return torch.cat([have, rows[picks]])


def most_needed(
    rows: Float32[Tensor, "m dim"], centroids: Float32[Tensor, "k dim"], spare: int
) -> Int[np.ndarray, " kept"]:
    """All centroids but at most `spare`: those whose rows lose least if they go to their second nearest.

    Of two centroids that would take each other's rows only one may go.
    """
    near = (rows @ centroids.T).topk(2, dim=1)
    own, next_best = near.indices.T
    k = len(centroids)
    loss = torch.zeros(k, dtype=torch.float64).index_add_(0, own, (near.values[:, 0] - near.values[:, 1]).double())
    heir = torch.zeros(k, k, dtype=torch.int64).index_put_((own, next_best), torch.ones(1).long(), accumulate=True)
    kept = np.ones(k, dtype=bool)
    needed = np.zeros(k, dtype=bool)
    for centroid in np.argsort(loss.numpy(), kind="stable").tolist():
        if spare and not needed[centroid]:
            kept[centroid], spare = False, spare - 1
            if heir[centroid].any():  # it has rows here
                needed[int(heir[centroid].argmax())] = True
    return np.flatnonzero(kept)


def draw(n: int, count: int, rng: np.random.Generator) -> Int[np.ndarray, " drawn"]:
    """At most `count` of n places, ascending."""
    return np.arange(n) if n <= count else np.sort(rng.permutation(n)[:count])


def _distance(rows: Float32[Tensor, "m dim"], centroids: Float32[Tensor, "c dim"]) -> Float[Tensor, "c m"]:
    """1 − cosine; 0 between equal rows. In this orientation the product is several times faster than in the other."""
    distance = 1 - (centroids @ rows.T).double()
    return distance.where(distance > DISTINCT, 0)

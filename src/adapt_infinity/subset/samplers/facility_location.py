"""Facility location: rows such that every row of the cluster has one like it among them (Mirzasoleiman et al. 2013).

Greedily maximises the sum over all rows of their cosine, moved to [0, 2], with the nearest row taken; a submodular
function, so that the result is at least 1 − 1/e of the best. Lazily (Minoux 1978): a row's gain only falls, so the top
of a heap with old gains is right as soon as its own is fresh. Costs n²/block passes for the first gains and one pass
over the cluster for each gain that is taken anew; memory O(block · n).
"""

import heapq

import numpy as np
from jaxtyping import Bool, Float32, Int

from adapt_infinity.subset.selecting import Members, SubsetParams

BLOCK = 1024
DECIMALS = 4  # of a gain: copies tie in spite of single precision


def sample(
    members: Members, budget: int, rng: np.random.Generator, params: SubsetParams
) -> tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The scores are not looked at; of equal gains the row with the lowest sample_id is taken."""
    count = len(members.scores)
    selected, stratum = np.zeros(count, dtype=bool), np.full(count, -1)
    if budget >= count:
        return ~selected, stratum
    vectors = members.vectors()
    heap = [(-gain, row, 0) for row, gain in enumerate(_first_gains(vectors))]
    heapq.heapify(heap)
    served = np.zeros(count, dtype=np.float32)  # how well each row is served by those taken
    for taken in range(budget):
        while heap[0][2] < taken:
            row = heap[0][1]
            gain = np.maximum(_likeness(vectors, row) - served, 0).sum(dtype=np.float64)
            heapq.heapreplace(heap, (-round(float(gain), DECIMALS), row, taken))
        row = heapq.heappop(heap)[1]
        selected[row] = True
        served = np.maximum(served, _likeness(vectors, row))
    return selected, stratum


def _first_gains(vectors: Float32[np.ndarray, "n dim"]) -> list[float]:
    """Summed likeness of each row with all rows."""
    gains: list[float] = []
    for start in range(0, len(vectors), BLOCK):
        likeness = 1 + vectors[start : start + BLOCK] @ vectors.T
        gains += np.round(likeness.sum(axis=1, dtype=np.float64), DECIMALS).tolist()
    return gains


def _likeness(vectors: Float32[np.ndarray, "n dim"], row: int) -> Float32[np.ndarray, " n"]:
    return 1 + vectors @ vectors[row]

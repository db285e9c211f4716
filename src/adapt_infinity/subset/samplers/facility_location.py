"""Take samples such that every sample of the cluster is similar to one of them: facility location (Mirzasoleiman et al.
2013).

The rule greedily maximises the sum over all samples of 1 + the cosine to the nearest sample taken. This function is
submodular, so the result is at least 1 − 1/e of the best possible. Evaluation is lazy (Minoux 1978): a gain can only
fall, so the best old gain on the heap is the best one as soon as it has been computed anew. Cost: n² cosines for the
first gains, and n for each gain that is computed anew; memory: O(block · n).
"""

import heapq

import numpy as np
from jaxtyping import Float32

from adapt_infinity.subset.samplers import Members, SamplerParams, Selected

BLOCK = 1024  # rows whose cosines are in memory at a time
DECIMALS = 4  # gains are rounded to these, so that duplicates are equal in spite of single precision


def sample(members: Members, budget: int, rng: np.random.Generator, params: SamplerParams) -> Selected:
    """Scores are not used; among equal gains the sample with the lowest sample_id is taken."""
    count = len(members.scores)
    selected, stratum = np.zeros(count, dtype=bool), np.full(count, -1)
    if budget >= count:
        return ~selected, stratum
    vectors = members.vectors()
    heap = [(-gain, row, 0) for row, gain in enumerate(_first_gains(vectors))]  # and when each gain was computed
    heapq.heapify(heap)
    nearest = np.zeros(count, dtype=np.float32)  # the similarity of each sample to the nearest one taken
    for taken in range(budget):
        while heap[0][2] < taken:
            row = heap[0][1]
            gain = np.maximum(_similarity(vectors, row) - nearest, 0).sum(dtype=np.float64)
            heapq.heapreplace(heap, (-round(float(gain), DECIMALS), row, taken))
        row = heapq.heappop(heap)[1]
        selected[row] = True
        nearest = np.maximum(nearest, _similarity(vectors, row))
    return selected, stratum


def _first_gains(vectors: Float32[np.ndarray, "n dim"]) -> list[float]:
    """The sum of each sample's similarities to all samples."""
    gains: list[float] = []
    for start in range(0, len(vectors), BLOCK):
        similarity = 1 + vectors[start : start + BLOCK] @ vectors.T
        gains += np.round(similarity.sum(axis=1, dtype=np.float64), DECIMALS).tolist()
    return gains


def _similarity(vectors: Float32[np.ndarray, "n dim"], row: int) -> Float32[np.ndarray, " n"]:
    """1 + the cosine of each sample to that of this row."""
    return 1 + vectors @ vectors[row]

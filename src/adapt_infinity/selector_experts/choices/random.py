"""Choose a random expert for each cluster in each round. This is the baseline that another rule must improve on."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """A random permutation per cluster; that of one cluster does not depend on which other clusters there are."""
    permutations = [
        np.random.default_rng([*candidates.seeds, int(cluster)]).permutation(len(candidates.experts))
        for cluster in candidates.clusters
    ]
    return np.array(permutations, dtype=np.int64).reshape(len(permutations), len(candidates.experts))

"""Random: any expert, drawn anew for each cluster and round. What any rule must beat."""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """A permutation a cluster; one cluster's does not depend on which others there are."""
    drawn = [
        np.random.default_rng([*candidates.seeds, int(cluster)]).permutation(len(candidates.experts))
        for cluster in candidates.clusters
    ]
    return np.array(drawn, dtype=np.int64).reshape(len(drawn), len(candidates.experts))

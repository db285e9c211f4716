"""Choose the expert whose last selection lowered the loss of the cluster's other samples most.

The loss is measured on samples that were *not* trained on: a selection is good if training on it helps the rest of the
cluster. An expert without a measured gain comes after experts with a positive gain and before those with a negative
one. Equal gains are ordered by entropy, so the first round chooses as `entropy` does.
"""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """Largest mean decrease of the loss first."""
    order = candidates.by_entropy()
    gains = np.take_along_axis(np.nan_to_num(candidates.gains, nan=0.0), order, axis=1)
    return np.take_along_axis(order, np.argsort(-gains, axis=1, kind="stable"), axis=1)

"""Validation: the expert whose last picks helped the cluster's samples most, by what their loss has done since.

Judged are samples that were *not* trained on: what their neighbours' training did for them is what a pick is worth.
An expert of which a cluster has no evidence comes after those that helped and before those that harmed; ties go by
entropy, so that the first round chooses as `entropy` does.
"""

import numpy as np
from jaxtyping import Int

from adapt_infinity.selector_experts.choices import Candidates


def prefer(candidates: Candidates) -> Int[np.ndarray, "clusters experts"]:
    """Largest mean fall of the loss first."""
    order = candidates.by_entropy()
    gains = np.take_along_axis(np.nan_to_num(candidates.gains, nan=0.0), order, axis=1)
    return np.take_along_axis(order, np.argsort(-gains, axis=1, kind="stable"), axis=1)

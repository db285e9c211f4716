"""Influence: how much training on a sample would help validation samples, to first order (LESS, arXiv:2402.04333).

The mean inner product of a sample's gradient with those of a skill's validation samples equals the inner product with
their mean, so all pairs cost O(n · dim · skills). The value for the skill that is helped most is used.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext

NEEDS = ("targets",)
BLOCK = 16_384  # rows that are read at a time


def score(context: ScoringContext) -> Float[np.ndarray, " n"]:
    """Mean cosine to the validation samples of the skill that is helped most, between −1 and 1."""
    influence = np.empty(len(context.cluster))
    for start in range(0, len(influence), BLOCK):
        rows = context.gradients[start : start + BLOCK].astype(np.float32)
        influence[start : start + BLOCK] = (rows @ context.targets.T).max(axis=1)
    return influence

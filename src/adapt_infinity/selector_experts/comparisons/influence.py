"""Influence: how far training on a sample would help validation samples, to first order (LESS, arXiv:2402.04333).

The mean inner product of a sample's gradient with those of a skill's validation samples is its inner product with
their mean, so that all pairs cost O(n · dim · skills). Of several skills the one that is helped most counts.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext

BLOCK = 16_384


def score(evidence: ScoringContext) -> Float[np.ndarray, " n"]:
    """Mean cosine with the validation samples of the skill that gains most, in [-1, 1]."""
    found = np.empty(len(evidence.cluster))
    for start in range(0, len(found), BLOCK):
        rows = evidence.gradients[start : start + BLOCK].astype(np.float32)
        found[start : start + BLOCK] = (rows @ evidence.targets.T).max(axis=1)
    return found

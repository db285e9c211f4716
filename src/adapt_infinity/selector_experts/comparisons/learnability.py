"""Learnability: the loss of a sample minus its loss under a reference model (Evans et al. 2024, arXiv:2406.17711).

This is RHO-LOSS (Mindermann et al. 2022, arXiv:2206.07137). It is low for samples that the model already knows, and
also for noise that neither model can learn. The reference is the adapter `selector_experts.reference`.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext

NEEDS = ("reference_scores",)


def score(context: ScoringContext) -> Float[np.ndarray, " n"]:
    """Nats per answer token; above 0 where the reference has the lower loss."""
    return context.nll - context.reference_nll

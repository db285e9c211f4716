"""Learnability: what a reference model knows of a sample and this one does not (Evans et al. 2024, arXiv:2406.17711).

Loss now − loss under the reference (`selector_experts.reference`), as in RHO-LOSS (Mindermann et al. 2022,
arXiv:2206.07137): low for what is known, and low too for noise that nobody learns.
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.selector_experts.context import ScoringContext


def score(evidence: ScoringContext) -> Float[np.ndarray, " n"]:
    """Nats an answer token; above 0 the reference is better."""
    return evidence.nll - evidence.reference_nll

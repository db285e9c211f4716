"""Gradient space: samples are similar if training on them would change the model in the same direction
(Maharana et al., arXiv:2410.10636).
"""

import numpy as np
from jaxtyping import Float

from adapt_infinity.pseudo_skills.feature_source import Features


def rows(features: Features) -> Float[np.ndarray, "n dim"]:
    """The probe's sketched gradients."""
    return features.gradients

"""Embeddings: samples are alike if the model represents their words and pictures alike."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.pseudo_skills.feature_source import Features


def rows(features: Features) -> Float[np.ndarray, "n width"]:
    """The probe's mean hidden states."""
    return features.embeddings

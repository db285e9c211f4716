"""Embedding space: samples are similar if the model represents their texts and images by similar hidden states."""

import numpy as np
from jaxtyping import Float

from adapt_infinity.pseudo_skills.feature_source import Features


def rows(features: Features) -> Float[np.ndarray, "n hidden"]:
    """The probe's mean hidden states."""
    return features.embeddings

"""Entropy: the Shannon entropy of the model's prediction, averaged over answer tokens, in nats."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs, mean_over_answers


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """From 0 (the model is certain of one word) to the logarithm of the size of the vocabulary."""
    return mean_over_answers(outputs.tokens.entropy, outputs.labels)

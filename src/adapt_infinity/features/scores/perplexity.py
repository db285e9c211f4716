"""Perplexity: exp of the mean loss of the answer tokens, and not the mean of the tokens' own perplexities."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """At least 1. A model that guesses at random has the size of the vocabulary."""
    return outputs.nll.exp()

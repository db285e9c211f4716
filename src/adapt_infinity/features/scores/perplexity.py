"""Perplexity: exp of the mean answer loss, not the mean of the tokens' own perplexities."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """From 1; the size of the vocabulary is a guess at random."""
    return outputs.nll.exp()

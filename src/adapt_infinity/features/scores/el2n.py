"""EL2N: the length of the error vector (Paul et al. 2021, arXiv:2107.07075), averaged over answer tokens."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs, mean_over_answers


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """From 0 (the model is certain and right) to √2 (it is certain and wrong)."""
    return mean_over_answers(outputs.tokens.error_length, outputs.labels)

"""EL2N: the length of the error vector (Paul et al. 2021, arXiv:2107.07075), averaged over answer tokens."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs, mean_over_answers


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """From 0 (certain and right) to sqrt(2) (certain and wrong)."""
    return mean_over_answers(outputs.tokens.error_length, outputs.labels)

"""Fisher trace: how much the loss would change with the head's weights (Lee et al. 2025, arXiv:2506.02011, OASIS).

The gradient of a token's −log p by the head's matrix is the outer product of the error vector (softmax − one-hot) and
the hidden state that goes into the head, so the trace of its Fisher information is ‖error‖² ‖hidden‖²: closed, without
a backward pass. The mean over answer tokens.
"""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs, mean_over_answers

NEEDS = ("squared_hidden_norm",)


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """0 where the model is certain and right."""
    assert outputs.squared_hidden_norm is not None
    return mean_over_answers(outputs.tokens.error_length.square() * outputs.squared_hidden_norm, outputs.labels)

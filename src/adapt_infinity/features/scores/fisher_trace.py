"""Fisher trace of the head's weights, averaged over answer tokens (OASIS, Lee et al. 2025, arXiv:2506.02011).

The gradient of a token's −log p with respect to the head's matrix is the outer product of the error vector (softmax −
one-hot) and the head's input h. The trace of its Fisher information is therefore ‖error‖² ‖h‖², in closed form and
without a backward pass.
"""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs, mean_over_answers

NEEDS = ("squared_hidden_norm",)


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """At least 0, which it is where the model is certain and right."""
    trace = outputs.tokens.error_length.square() * outputs.required("squared_hidden_norm")
    return mean_over_answers(trace, outputs.labels)

"""NLL: the mean negative log-likelihood of the answer tokens, in nats; this is the training loss."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """At least 0, which it is for an answer that the model was certain of."""
    return outputs.nll

"""Loss: the mean negative log likelihood of the answer tokens, in nats."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """0 for an answer that the model was certain of."""
    return outputs.nll

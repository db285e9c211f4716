"""Image grounding (Adapt-∞, arXiv:2410.10636, section 3): how much the picture helps the model to say the answer.

The paper's ratio is perplexity without the image ÷ perplexity with it; stored is its logarithm, the difference of the
two losses. The sign says whether the picture helps, and a text-only sample has exactly 0.
"""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs

NEEDS = ("nll_without_image",)


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """Nats an answer token; above 0 the picture helps."""
    assert outputs.nll_without_image is not None, "NEEDS says so"
    return outputs.nll_without_image - outputs.nll

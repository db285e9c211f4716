"""Image grounding: how much the image helps the model to predict the answer (Adapt-∞, arXiv:2410.10636, section 3).

The paper's ratio is the perplexity without the image ÷ the perplexity with it. This score is its logarithm, which is
the difference of the two losses. Its sign says whether the image helps; a sample without an image has exactly 0.
"""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs

NEEDS = ("nll_without_image",)


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """In nats per answer token; above 0, the image helps."""
    return outputs.required("nll_without_image") - outputs.nll

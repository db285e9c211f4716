"""Sign: the signs of the gradient's entries, so that all entries count equally, as in Adam's first step."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.gradients import Moments


def prepare(
    gradient: Float[Tensor, "batch out inside"], _moments: Moments | None, _steps: int
) -> Float[Tensor, "batch out inside"]:
    """−1, 0 or 1; 0 where the gradient is exactly 0."""
    return gradient.sign()

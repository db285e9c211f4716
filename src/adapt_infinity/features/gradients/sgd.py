"""SGD: the gradient as it is, which is the step of plain gradient descent (the default)."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.gradients import Moments


def prepare(
    gradient: Float[Tensor, "batch out inside"], _moments: Moments | None, _steps: int
) -> Float[Tensor, "batch out inside"]:
    """Returns its argument."""
    return gradient

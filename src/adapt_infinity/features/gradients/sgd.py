"""The gradient as it is: the direction of a step of plain gradient descent (METHOD's default)."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.gradients import Moments


def prepare(
    gradient: Float[Tensor, "batch out inside"], _moments: Moments | None, _steps: int
) -> Float[Tensor, "batch out inside"]:
    """The gradient."""
    return gradient

"""Adam: the step that Adam would take on this sample alone (LESS, Xia et al. 2024, arXiv:2402.04333, section 3.1).

The saved moments m and v after t steps are updated with the sample's own gradient and corrected for their start at
zero; the step is m / (√v + ε). The code of LESS leaves the correction out and adds ε under the root; here it is Adam
as torch computes it.
"""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.gradients import Moments

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def prepare(
    gradient: Float[Tensor, "batch out inside"], moments: Moments | None, steps: int
) -> Float[Tensor, "batch out inside"]:
    """Adam's step at learning rate 1, without its minus sign, fp32. `ValueError` without moments."""
    if moments is None or steps < 1:
        raise ValueError(
            "probe.gradient=adam needs the optimiser's moments, and the adapter has none for this module: train it "
            "once with this version, which saves them, or choose probe.gradient=sgd"
        )
    mean, square = (moment.to(gradient).view(gradient.shape[1:]) for moment in moments)
    second = gradient.square().mul_(1 - BETA_2).add_(square, alpha=BETA_2)
    second = second.div_(1 - BETA_2 ** (steps + 1)).sqrt_().add_(EPSILON)
    first = gradient.mul(1 - BETA_1).add_(mean, alpha=BETA_1).div_(1 - BETA_1 ** (steps + 1))
    return first.div_(second)

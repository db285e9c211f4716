"""GraNd: the L2 norm of the sample's gradient over the probed modules (Paul et al. 2021, arXiv:2107.07075)."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs

NEEDS = ("gradient_norm",)


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """At least 0. The norm is taken before the gradient is sketched and normalised."""
    return outputs.required("gradient_norm")

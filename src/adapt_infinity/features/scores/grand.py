"""GraNd: the L2 norm of the sample's gradient (Paul et al. 2021, arXiv:2107.07075), over the probed LoRA modules."""

from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.scores import Outputs

NEEDS = ("gradient_norm",)


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """The norm before sketching and before normalisation."""
    assert outputs.gradient_norm is not None, "NEEDS says so"
    return outputs.gradient_norm

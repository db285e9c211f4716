"""EL2N: the length of the error vector (Paul et al. 2021, arXiv:2107.07075), averaged over answer tokens."""

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.experts import IGNORED, Outputs, mean_over_answers


def score(outputs: Outputs) -> Float[Tensor, " batch"]:
    """From 0 (certain and right) to sqrt(2) (certain and wrong)."""
    word = outputs.labels.where(outputs.labels != IGNORED, 0).unsqueeze(-1)
    error = outputs.p.scatter_add(-1, word, -torch.ones_like(word, dtype=outputs.p.dtype))
    return mean_over_answers(error.norm(dim=-1), outputs.labels)

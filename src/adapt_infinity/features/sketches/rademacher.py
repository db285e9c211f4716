"""Dense random projection: each number of the sketch is the inner product with a direction of random signs.

This is what LESS and TRAK do (arXiv:2402.04333, arXiv:2303.14186), for comparison: D·dim multiplications where
`segments` needs D additions. The matrix is never held: directions are drawn, or unpacked from bits, block by block.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.counter_rng import directions

BLOCK = 2**24  # signs that are held at a time: 64 MB


def sketch(gradient: Float[Tensor, "batch ..."], module: str, dim: int) -> Float[Tensor, "batch dim"]:
    """The sketch of one module's per-sample gradients, fp32."""
    flat = gradient.flatten(1).float()
    size = flat.shape[1]
    made = torch.empty(len(flat), dim, device=flat.device)
    block = max(1, BLOCK // size)
    for first in range(0, dim, block):
        count = min(block, dim - first)
        torch.mm(flat, directions(module, size, first, count, flat.device).T, out=made[:, first : first + count])
    return made.div_(dim**0.5)

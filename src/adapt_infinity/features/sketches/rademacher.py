"""Rademacher: a dense projection, in which each number is the inner product with a direction of random signs.

LESS and TRAK do this (arXiv:2402.04333, arXiv:2303.14186). It is here for comparison: for a gradient of D numbers it
needs D·dim multiplications where `segments` needs D additions. The whole matrix is never in memory: its rows are
drawn, or unpacked from stored bits, block by block.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.counter_rng import directions

BLOCK = 2**24  # signs in memory at a time: 64 MB


def sketch(gradient: Float[Tensor, "batch ..."], module: str, dim: int) -> Float[Tensor, "batch dim"]:
    """The sketch of one module's per-sample gradients, fp32."""
    flat = gradient.flatten(1).float()
    size = flat.shape[1]
    sketched = torch.empty(len(flat), dim, device=flat.device)
    block = max(1, BLOCK // size)
    for first in range(0, dim, block):
        count = min(block, dim - first)
        torch.mm(flat, directions(module, size, first, count, flat.device).T, out=sketched[:, first : first + count])
    return sketched.div_(dim**0.5)

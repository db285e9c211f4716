"""Segments: a count sketch (Charikar, Chen, Farach-Colton 2002) with buckets of equal size.

Every number of the gradient gets a random sign and a random position; the permuted numbers are cut into segments of
`dim`, and the segments are added up. Inner products are kept in expectation, with the variance of a dense random
projection of the same width, for D additions instead of D·dim multiplications.

Signs and positions come from the raw 64-bit stream of Philox, whose key is the version and the module's name: they are
the same on every machine, device, batch and worker.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.counter_rng import DrawCache, raw_bits

VERSION = 1  # raise it when the numbers below change: stored rows of many rounds depend on them
# 5 bytes per number of a gradient: all layers of a 7B model at rank 128 take 1.6 GB, one layer takes 50 MB
_plans = DrawCache(2**31)


def sketch(gradient: Float[Tensor, "batch ..."], module: str, dim: int) -> Float[Tensor, "batch dim"]:
    """The sketch of one module's per-sample gradients, fp32."""
    flat = gradient.flatten(1).float()
    size = flat.shape[1]
    order, signs = _plans.get((module, size, flat.device), lambda: _plan(module, size, flat.device))
    sketched = torch.zeros(len(flat), dim, device=flat.device)
    for first in range(0, size, dim):  # one segment at a time fits into the processor's cache
        last = min(first + dim, size)
        permuted = flat.index_select(1, order[first:last])
        sketched[:, : last - first].addcmul_(permuted, signs[first:last])
    return sketched


def _plan(module: str, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A permutation of 0, …, size − 1 (int32) and as many signs (int8), which depend on the module's name alone."""
    raw = raw_bits(f"{VERSION}/{module}", size)
    order = np.argsort(raw, kind="stable").astype(np.int32)
    signs = 1 - 2 * (raw & np.uint64(1)).astype(np.int8)
    return torch.from_numpy(order).to(device), torch.from_numpy(signs).to(device)

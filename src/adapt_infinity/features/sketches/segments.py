"""Signed, permuted, added up in segments: a count sketch (Charikar, Chen, Farach-Colton 2002) with balanced buckets.

Every number gets a random sign and a random place among `dim` segments of equal size; a segment's numbers are added
up. Inner products are kept in expectation, with the spread of a dense random projection of the same width, for D
additions instead of D·dim multiplications.

Signs and places come from Philox's raw 64-bit stream, keyed by (version, module name): the same on every machine,
device, batch and worker.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from adapt_infinity.features.counter_rng import DrawCache, raw_bits

VERSION = 1  # of the numbers below; stored rows of many rounds depend on them
_plans = DrawCache(2**31)  # 5 bytes a number: every layer of a 7B model at rank 128 takes 1.6 GB, one layer 50 MB


def sketch(gradient: Float[Tensor, "batch ..."], module: str, dim: int) -> Float[Tensor, "batch dim"]:
    """The sketch of one module's per-sample gradients, fp32."""
    flat = gradient.flatten(1).float()
    size = flat.shape[1]
    places, signs = _plans.get((module, size, flat.device), lambda: _plan(module, size, flat.device))
    made = torch.zeros(len(flat), dim, device=flat.device)
    for first in range(0, size, dim):  # one segment after another stays in the processor's cache
        last = min(first + dim, size)
        chosen = flat.index_select(1, places[first:last])
        made[:, : last - first].addcmul_(chosen, signs[first:last])
    return made


def _plan(module: str, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A permutation of 0..size-1 and as many signs, from the module's name alone."""
    raw = raw_bits(f"{VERSION}/{module}", size)
    places = np.argsort(raw, kind="stable").astype(np.int32)
    signs = 1 - 2 * (raw & np.uint64(1)).astype(np.int8)
    return torch.from_numpy(places).to(device), torch.from_numpy(signs).to(device)

"""Sketch: a per-sample gradient of millions of numbers, made short so that inner products survive.

Every number gets a random sign and a random place among `dim` segments of equal size; a segment's numbers are added
up. That is a count sketch (Charikar, Chen, Farach-Colton 2002) whose buckets are balanced by a permutation: inner
products are kept in expectation, with the spread of a dense random projection of the same width, for D additions
instead of D·dim multiplications.

Signs and places come from Philox's raw 64-bit stream, keyed by (spec version, module name): the same on every machine,
device, batch and worker, because no library's own `shuffle` has a say.
"""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SPEC_VERSION = 1


def sketch(gradient: Float[Tensor, "batch ..."], module: str, dim: int) -> Float[Tensor, "batch dim"]:
    """The sketch of one module's per-sample gradients, fp32. Sketches of several modules add up to that of them all."""
    flat = gradient.flatten(1).float()
    places, signs = _plan(module, flat.shape[1])
    chosen = flat[:, places.to(flat.device)] * signs.to(flat.device)
    segments = -(-chosen.shape[1] // dim)
    padded = torch.nn.functional.pad(chosen, (0, segments * dim - chosen.shape[1]))
    return padded.view(len(flat), segments, dim).sum(dim=1)


@lru_cache(maxsize=256)
def _plan(module: str, size: int) -> tuple[Tensor, Tensor]:
    """A permutation of 0..size-1 and as many signs, from the module's name alone."""
    key = hashlib.blake2b(f"{SPEC_VERSION}/{module}".encode(), digest_size=16).digest()
    raw = np.random.Philox(key=np.frombuffer(key, dtype=np.uint64)).random_raw(size)
    places = np.argsort(raw, kind="stable")
    signs = 1.0 - 2.0 * (raw & np.uint64(1)).astype(np.float32)
    return torch.from_numpy(places), torch.from_numpy(signs)

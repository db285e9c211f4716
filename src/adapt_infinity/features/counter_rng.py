"""Random bits that are the same on every machine, and a cache of tensors that are made from them.

The bits are the raw 64-bit stream of the counter-based generator Philox (Salmon et al. 2011), whose key is a hash of a
text. No library's `shuffle` or `randn` takes part, whose results may differ between versions and devices.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor


def raw_bits(text: str, count: int, stream: int = 0) -> np.ndarray:
    """`count` numbers of 64 random bits (uint64), which depend on the text and on the number of the stream alone."""
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    philox = np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64), counter=[0, stream, 0, 0])
    return np.asarray(philox.random_raw(count), dtype=np.uint64)


class DrawCache:
    """Tuples of tensors by key, of at most `max_bytes` together; the least recently used ones are dropped first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._tensors: OrderedDict[Hashable, tuple[Tensor, ...]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What is stored under the key, or what `make` returns. A tuple above the limit is returned but not stored."""
        if key in self._tensors:
            self._tensors.move_to_end(key)
            return self._tensors[key]
        made = make()
        if _byte_count(made) <= self._max_bytes:
            self._tensors[key] = made
            self._bytes += _byte_count(made)
            while self._bytes > self._max_bytes:
                self._bytes -= _byte_count(self._tensors.popitem(last=False)[1])
        return made


def _byte_count(tensors: tuple[Tensor, ...]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


DIRECTIONS_VERSION = 1
_packed_directions = DrawCache(2**28)


def directions(module: str, size: int, first: int, count: int, device: torch.device) -> Tensor:
    """Directions first, …, first + count − 1 of ±1 in the space of a module's `size` weights, fp32 [count, size].

    Direction j depends on the module's name and on j alone. The cache keeps one bit per sign.
    """
    key = (module, size, first, count, device)
    (bits,) = _packed_directions.get(key, lambda: (_draw(module, size, first, count, device),))
    shifts = torch.arange(8, dtype=torch.uint8, device=device)
    signs = bits.unsqueeze(-1).bitwise_right_shift(shifts).bitwise_and_(1)
    return signs.flatten(1)[:, :size].float().mul_(-2).add_(1)


def _draw(module: str, size: int, first: int, count: int, device: torch.device) -> Tensor:
    text, words = f"directions/{DIRECTIONS_VERSION}/{module}", -(-size // 64)
    rows = [raw_bits(text, words, stream).astype("<u8").view(np.uint8) for stream in range(first, first + count)]
    return torch.from_numpy(np.stack(rows)).to(device)

"""Random numbers that are the same on every machine, and a store for what is drawn once and used for every batch.

They come from Philox's raw 64-bit stream, keyed by words, because no library's own `shuffle` or `randn` then has a say.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor


def raw_bits(words: str, count: int, stream: int = 0) -> np.ndarray:
    """`count` numbers of 64 random bits, decided by the words and the number of the stream."""
    key = hashlib.blake2b(words.encode(), digest_size=16).digest()
    philox = np.random.Philox(key=np.frombuffer(key, dtype="<u8").astype(np.uint64), counter=[0, stream, 0, 0])
    return np.asarray(philox.random_raw(count), dtype=np.uint64)


class DrawCache:
    """Tensors by key, bounded by bytes; what was used longest ago goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._held = most_bytes, 0
        self._tensors: OrderedDict[Hashable, tuple[Tensor, ...]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What is stored under the key, made first if need be (and not stored if it alone exceeds the bound)."""
        if key in self._tensors:
            self._tensors.move_to_end(key)
            return self._tensors[key]
        made = make()
        if _bytes(made) <= self._most:
            self._tensors[key] = made
            self._held += _bytes(made)
            while self._held > self._most:
                self._held -= _bytes(self._tensors.popitem(last=False)[1])
        return made


def _bytes(tensors: tuple[Tensor, ...]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


DIRECTIONS_VERSION = 1
_packed = DrawCache(2**28)


def directions(module: str, size: int, first: int, count: int, device: torch.device) -> Tensor:
    """Directions first … first+count of ±1 in the space of a module's `size` numbers, fp32 [count, size].

    Direction j depends on the module's name and on j alone. Kept as bits, an eighth of a byte a sign.
    """
    (bits,) = _packed.get((module, size, first, count, device), lambda: (_draw(module, size, first, count, device),))
    places = torch.arange(8, dtype=torch.uint8, device=device)
    signs = bits.unsqueeze(-1).bitwise_right_shift(places).bitwise_and_(1)
    return signs.flatten(1)[:, :size].float().mul_(-2).add_(1)


def _draw(module: str, size: int, first: int, count: int, device: torch.device) -> Tensor:
    words = f"directions/{DIRECTIONS_VERSION}/{module}"
    rows = [
        raw_bits(words, -(-size // 64), stream).astype("<u8").view(np.uint8) for stream in range(first, first + count)
    ]
    return torch.from_numpy(np.stack(rows)).to(device)

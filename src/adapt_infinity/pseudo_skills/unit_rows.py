"""Rows of length 1, in single precision, as clustering reads them: piece by piece, however many there are.

A row may be seen from several sides (gradients, questions, …): then its views, each of length 1, stand one behind the
other, and the whole is brought to length 1 again.

Arithmetic happens in *pieces* of `PIECE` rows, whatever the threads and however much is read at a time: every piece is
computed by one thread whose BLAS has one thread, and what pieces add up to is added in their order. So the same rows
give the same bits on any number of threads. Arrays mapped from files are let go of after each block of pieces; what is
in memory is a block, never the file.
"""

import mmap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

PIECE = 2048  # rows; part of the result's definition, since sums of floats depend on it
FEW, APART = 128, 8 * PIECE  # rows gathered at a time, where they are spread over more than so many
SHOWN = 5  # samples named in an error

Result = TypeVar("Result")
Selection = slice | np.ndarray


@dataclass(frozen=True)
class UnitRows:
    """Unit rows of one or several arrays, half or single precision; `places` are the rows taken, None = all."""

    views: tuple[np.ndarray, ...]
    lengths: tuple[Float32[np.ndarray, " all"], ...]  # of the arrays' rows
    places: Int[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.views[0]) if self.places is None else len(self.places)

    @property
    def dim(self) -> int:
        """Numbers in a row, over all views."""
        return sum(view.shape[1] for view in self.views)

    def take(self, which: Selection) -> Float32[Tensor, "m dim"]:
        """The chosen rows, in a tensor of their own."""
        which = which if self.places is None else self.places[which]
        parts = [
            _unit(self._copy(view, which), lengths[which])
            for view, lengths in zip(self.views, self.lengths, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1).mul_(len(parts) ** -0.5)

    def _copy(self, view: np.ndarray, which: Selection) -> np.ndarray:
        """Rows that lie apart each map up to a megabyte around them, so they are let go of after every few."""
        if isinstance(which, slice):
            return np.array(view[which])
        if len(which) == 0 or which.max() - which.min() < APART:
            return view[which]
        copy = np.empty((len(which), view.shape[1]), dtype=view.dtype)
        for start in range(0, len(which), FEW):
            copy[start : start + FEW] = view[which[start : start + FEW]]
            self.release()
        return copy

    def subset(self, which: Int[np.ndarray, " m"]) -> "UnitRows":
        """The chosen rows as rows of their own; nothing is read."""
        return UnitRows(self.views, self.lengths, which if self.places is None else self.places[which])

    def release(self) -> None:
        """Let go of what was mapped into memory; it is read from the file again when it is asked for."""
        for view in self.views:
            base: Any = view
            while base is not None and not isinstance(base, mmap.mmap):
                base = getattr(base, "base", None)
            if base is not None and memoryview(base).readonly:
                base.madvise(mmap.MADV_DONTNEED)


@runtime_checkable
class Each(Protocol):
    """Calls a function with every piece of the rows, and yields what it returns in the order of the pieces.

    What a caller keeps of a piece belongs into an array of its own: small results that outlive a piece's large ones
    keep their memory from being used again.
    """

    def __call__(self, rows: UnitRows, function: Callable[[slice], Result], /) -> Iterator[Result]:
        """A block of pieces at a time."""
        ...


@contextmanager
def workers(threads: int, block: int) -> Iterator[Each]:
    """Threads that work on pieces, `block` rows (at least a piece a thread) being mapped at a time.

    0 threads = as many as torch has. In the meantime torch, BLAS and OpenMP have one thread each; what they had before
    they have again afterwards.
    """
    before = torch.get_num_threads()
    count = threads or before
    ahead = max(count, -(-block // PIECE))
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1), ThreadPoolExecutor(count, initializer=_alone) as pool:

            def each(rows: UnitRows, function: Callable[[slice], Result], /) -> Iterator[Result]:
                whole = pieces(len(rows))
                for first in range(0, len(whole), ahead):
                    yield from pool.map(function, whole[first : first + ahead])
                    rows.release()

            yield each
    finally:
        torch.set_num_threads(before)


def pieces(n: int) -> list[slice]:
    """Where each piece of n rows lies."""
    return [slice(start, min(start + PIECE, n)) for start in range(0, n, PIECE)]


def unit_rows(
    arrays: Sequence[Float[np.ndarray, "n _"]], sample_ids: Int[np.ndarray, " n"], names: Sequence[str], each: Each
) -> UnitRows:
    """Rows by ascending sample_id, whatever order the arrays have.

    `ValueError` for a row of zeros or one that is not finite, named with its sample.
    """
    for array, name in zip(arrays, names, strict=True):
        if array.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name}: rows must be float16 or float32, got {array.dtype}")
        assert len(array) == len(sample_ids)
    lengths = tuple(_lengths(array, sample_ids, name, each) for array, name in zip(arrays, names, strict=True))
    in_order = bool((np.diff(sample_ids) > 0).all())
    return UnitRows(tuple(arrays), lengths, None if in_order else np.argsort(sample_ids, kind="stable"))


def _lengths(
    array: Float[np.ndarray, "n dim"], sample_ids: Int[np.ndarray, " n"], name: str, each: Each
) -> Float32[np.ndarray, " n"]:
    lengths = np.empty(len(array), dtype=np.float32)

    def measure(here: slice) -> None:
        part = torch.from_numpy(np.array(array[here]))
        part = part.float() if array.dtype == np.float16 else part.double()  # single precision may overflow
        lengths[here] = torch.linalg.vector_norm(part, dim=1).numpy()

    for _ in each(UnitRows((array,), ()), measure):
        pass
    for wrong, what in ((~np.isfinite(lengths), "not finite"), (lengths == 0, "all zeros")):
        if wrong.any():
            named = np.sort(sample_ids[wrong])[:SHOWN].tolist()
            raise ValueError(f"{name}: rows that are {what}: {int(wrong.sum())} samples, the first: {named}")
    return lengths


def _unit(rows: Float[np.ndarray, "m dim"], lengths: Float32[np.ndarray, " m"]) -> Float32[Tensor, "m dim"]:
    """In memory that is aligned whatever the file. Torch widens halves faster than numpy."""
    single = torch.from_numpy(rows).to(torch.float32, copy=True)
    return single.div_(torch.from_numpy(np.array(lengths))[:, None])


def _alone() -> None:
    """OpenMP's setting is a thread's own."""
    torch.set_num_threads(1)

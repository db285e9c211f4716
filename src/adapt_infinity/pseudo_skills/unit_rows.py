"""Rows of length 1 in single precision, which clustering reads in pieces, so that they need not fit in memory.

A row can join several views of a sample (its gradient, its question, …). Each view is scaled to length 1, the views are
concatenated, and the whole is scaled to length 1 again.

All arithmetic is done on *pieces* of `PIECE_ROWS` rows, whatever the number of threads and of rows that are read at a
time. One thread with single-threaded BLAS computes each piece, and the results of the pieces are added in the order of
the pieces. The same rows therefore give the same bits at any number of threads. Pages of a mapped file are released
after each block of pieces, so memory holds one block and never the whole file.
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

PIECE_ROWS = 2048  # part of the definition of the result, because rounding of sums depends on it
SCATTERED_SPAN = 8 * PIECE_ROWS  # selected rows that span more rows than this are copied in groups
GROUP_ROWS = 128  # rows of such a group
SHOWN_IDS = 5  # sample ids in an error message

Result = TypeVar("Result")
RowIndex = slice | np.ndarray


@dataclass(frozen=True)
class UnitRows:
    """Rows of length 1, joined from one or several arrays in half or single precision."""

    views: tuple[np.ndarray, ...]  # each [all, dim of the view]
    lengths: tuple[Float32[np.ndarray, " all"], ...]  # lengths of the rows of each view
    indices: Int[np.ndarray, " n"] | None = None  # the rows of the views that belong to it; None = all

    def __len__(self) -> int:
        return len(self.views[0]) if self.indices is None else len(self.indices)

    @property
    def dim(self) -> int:
        """Numbers per row, summed over the views."""
        return sum(view.shape[1] for view in self.views)

    def take(self, index: RowIndex) -> Float32[Tensor, "m dim"]:
        """A copy of the rows at `index`."""
        index = index if self.indices is None else self.indices[index]
        parts = [
            _scaled(self._copy(view, index), lengths[index])
            for view, lengths in zip(self.views, self.lengths, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1).mul_(len(parts) ** -0.5)

    def _copy(self, view: np.ndarray, index: RowIndex) -> np.ndarray:
        """Reading one scattered row maps up to a megabyte around it, so pages are released after every few rows."""
        if isinstance(index, slice):
            return np.array(view[index])
        if len(index) == 0 or index.max() - index.min() < SCATTERED_SPAN:
            return view[index]
        copy = np.empty((len(index), view.shape[1]), dtype=view.dtype)
        for start in range(0, len(index), GROUP_ROWS):
            copy[start : start + GROUP_ROWS] = view[index[start : start + GROUP_ROWS]]
            self.release()
        return copy

    def subset(self, index: Int[np.ndarray, " m"]) -> "UnitRows":
        """The rows at `index` as `UnitRows` of the same arrays; nothing is read or copied."""
        return UnitRows(self.views, self.lengths, index if self.indices is None else self.indices[index])

    def release(self) -> None:
        """Drop the mapped pages from memory; they are read from the file again when they are needed."""
        for view in self.views:
            base: Any = view
            while base is not None and not isinstance(base, mmap.mmap):
                base = getattr(base, "base", None)
            if base is not None and memoryview(base).readonly:
                base.madvise(mmap.MADV_DONTNEED)


@runtime_checkable
class MapPieces(Protocol):
    """Calls a function with every piece of the rows, in threads, and yields the results in the order of the pieces.

    A caller should copy the small results that it keeps. A small array that is a view of a large one, or that lies
    between large ones, keeps their memory from being reused.
    """

    def __call__(self, rows: UnitRows, function: Callable[[slice], Result], /) -> Iterator[Result]:
        """Works block by block, and releases the rows' mapped pages after each block."""
        ...


@contextmanager
def piece_threads(threads: int, block: int) -> Iterator[MapPieces]:
    """Start the threads that work on pieces.

    threads: how many; 0 = as many as torch has.
    block: rows that are mapped at a time, at least one piece per thread.

    While the threads run, torch, BLAS and OpenMP use one thread each; afterwards they have their former numbers again.
    """
    before = torch.get_num_threads()
    count = threads or before
    ahead = max(count, -(-block // PIECE_ROWS))
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1), ThreadPoolExecutor(count, initializer=_use_one_thread) as pool:

            def map_pieces(rows: UnitRows, function: Callable[[slice], Result], /) -> Iterator[Result]:
                whole = pieces(len(rows))
                for first in range(0, len(whole), ahead):
                    yield from pool.map(function, whole[first : first + ahead])
                    rows.release()

            yield map_pieces
    finally:
        torch.set_num_threads(before)


def pieces(n: int) -> list[slice]:
    """The pieces of n rows, as slices."""
    return [slice(start, min(start + PIECE_ROWS, n)) for start in range(0, n, PIECE_ROWS)]


def unit_rows(
    arrays: Sequence[Float[np.ndarray, "n _"]],
    sample_ids: Int[np.ndarray, " n"],
    names: Sequence[str],
    map_pieces: MapPieces,
) -> UnitRows:
    """Join the arrays to rows of length 1, ordered by ascending sample_id whatever the order of the arrays.

    arrays: one per view, with one row per sample in the order of `sample_ids`; `names` names them in errors.

    `ValueError` for an array that is neither float16 nor float32 or has another number of rows, and for a row that is
    all zeros or not finite, with the ids of the first such samples.
    """
    for array, name in zip(arrays, names, strict=True):
        if array.dtype not in (np.float16, np.float32):
            raise ValueError(f"{name}: rows must be float16 or float32, got {array.dtype}")
        if len(array) != len(sample_ids):
            raise ValueError(f"{name}: there are {len(array)} rows for {len(sample_ids)} samples")
    lengths = tuple(_lengths(array, sample_ids, name, map_pieces) for array, name in zip(arrays, names, strict=True))
    in_order = bool((np.diff(sample_ids) > 0).all())
    return UnitRows(tuple(arrays), lengths, None if in_order else np.argsort(sample_ids, kind="stable"))


def _lengths(
    array: Float[np.ndarray, "n dim"], sample_ids: Int[np.ndarray, " n"], name: str, map_pieces: MapPieces
) -> Float32[np.ndarray, " n"]:
    lengths = np.empty(len(array), dtype=np.float32)

    def measure(piece: slice) -> None:
        rows = torch.from_numpy(np.array(array[piece]))
        rows = rows.float() if array.dtype == np.float16 else rows.double()  # squares may overflow single precision
        lengths[piece] = torch.linalg.vector_norm(rows, dim=1).numpy()

    for _ in map_pieces(UnitRows((array,), ()), measure):
        pass
    for wrong, problem in ((~np.isfinite(lengths), "not finite"), (lengths == 0, "all zeros")):
        if wrong.any():
            ids = np.sort(sample_ids[wrong])[:SHOWN_IDS].tolist()
            raise ValueError(f"{name}: {int(wrong.sum())} samples have rows that are {problem}, the first: {ids}")
    return lengths


def _scaled(rows: Float[np.ndarray, "m dim"], lengths: Float32[np.ndarray, " m"]) -> Float32[Tensor, "m dim"]:
    """The rows divided by their lengths, copied to aligned memory. Torch converts half precision faster than numpy."""
    single = torch.from_numpy(rows).to(torch.float32, copy=True)
    return single.div_(torch.from_numpy(np.array(lengths))[:, None])


def _use_one_thread() -> None:
    """OpenMP keeps the number of threads per calling thread, so each worker thread sets its own."""
    torch.set_num_threads(1)

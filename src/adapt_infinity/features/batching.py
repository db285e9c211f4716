"""Batches of rows of similar length, within a budget of tokens and of memory.

A row is padded to a length that depends on its own length alone and not on its neighbours: the model then does the same
arithmetic for it in every batch. At most an eighth of a batch is padding. Where a batch of one row would be computed in
another order than a larger one (see `TokenBudget.doubles_single_rows`), the row is duplicated.
"""

import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Result = TypeVar("Result")
MAX_GROWTH = 2  # from one batch to the next: the memory of a small batch says little about that of a large one
MEMORY_SHARE = 0.9  # of the target that is planned for: memory per token varies from batch to batch


def padded_length(length: int) -> int:
    """The length to which a row of `length` tokens is padded: one of eight steps between two powers of two."""
    step = max(8, 1 << max(0, (length - 1).bit_length() - 4))
    return -(-length // step) * step


class TokenBudget:
    """How many tokens a batch may have: at most `tokens`, and fewer where memory is short.

    `memory_mb` (0 = no target) limits the memory that a batch may add to the memory in use. The memory per token is
    measured: the first batch is the longest row alone, and a batch that needs more per token than all before lowers the
    budget. `ValueError` for a target on a machine that cannot measure it.
    """

    def __init__(self, tokens: int, memory_mb: int, device: torch.device) -> None:
        self.tokens = tokens
        self._max_tokens, self._max_bytes, self._device = tokens, memory_mb * 2**20, device
        self._bytes_per_token = 0.0
        if memory_mb:
            self.tokens = 1
            _reset_peak(device)  # fails on a machine that cannot measure it

    @property
    def doubles_single_rows(self) -> bool:
        """Whether a batch of a single row has that row twice.

        On the CPU, the product of a matrix of one row is computed by another routine, which adds in another order. From
        two rows on, and with one thread, the order is the same for any number of rows (on Intel processors in the mode
        that `reproducibility.py` sets; `batch_invariance.py` checks it).
        """
        return self._device.type == "cpu"

    def halve(self, tokens: int, reason: str) -> None:
        """Note that a batch of `tokens` did not fit into memory: half of it is the limit from now on."""
        self._max_tokens = max(1, tokens // 2)
        self.tokens = min(self.tokens, self._max_tokens)
        log.warning("out of memory (%s): the probe continues with batches of at most %d tokens", reason, self.tokens)

    def measure(self, tokens: int, work: Callable[[], Result]) -> Result:
        """Do the work of a batch of `tokens`, and adapt the budget to the memory that it took."""
        if not self._max_bytes:
            return work()
        before = _reset_peak(self._device)
        result = work()
        self._bytes_per_token = max(self._bytes_per_token, (_peak(self._device) - before) / tokens)
        planned = MEMORY_SHARE * self._max_bytes
        fitting = int(planned / self._bytes_per_token) if self._bytes_per_token > 0 else self._max_tokens
        self.tokens = max(1, min(self._max_tokens, fitting, MAX_GROWTH * tokens))
        return result


def run_in_batches(
    lengths: Sequence[int], budget: TokenBudget, work: Callable[[list[int], int], Result]
) -> Iterator[tuple[list[int], Result]]:
    """Call `work(members, padded length)` for batches that cover all rows, the longest rows first.

    `members` are indices into `lengths`. Yields them with the result. On the CPU, a batch of one row has its index
    twice. When a batch runs out of memory, it and the budget are halved; `MemoryError` when a row does not fit alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-padded_length(lengths[index]), index))
    while order:
        length = padded_length(lengths[order[0]])
        max_rows = max(1, budget.tokens // length)
        members = [index for index in order[:max_rows] if padded_length(lengths[index]) == length]
        count = len(members)
        if count == 1 and budget.doubles_single_rows:
            members = members * 2
        tokens = len(members) * length
        try:
            result = budget.measure(tokens, lambda members=members, length=length: work(members, length))  # type: ignore[misc]
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            reason = _out_of_memory(error)
            if not reason:
                raise
        else:
            order = order[count:]
            yield members, result
            continue
        # Only here, the error is gone, and with it the tensors that its traceback refers to.
        if count == 1:
            raise MemoryError(f"a sample of {lengths[members[0]]} tokens does not fit into memory by itself: {reason}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        budget.halve(tokens, reason)


def _out_of_memory(error: BaseException) -> str:
    """The first line of an error that says that memory ran out; "" for any other error."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in line:
        return line
    return ""


def _reset_peak(device: torch.device) -> int:
    """Start a new measurement of peak memory. Returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # freed memory that the allocator keeps would hide what the next batch takes
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise ValueError("probe.memory_mb works on CUDA devices and on Linux only; set it to 0") from error
    return _process_status("VmRSS")


def _peak(device: torch.device) -> int:
    """The most bytes in use since the last `_reset_peak`."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _process_status("VmHWM")


def _process_status(entry: str) -> int:
    """An entry of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry + ":"))

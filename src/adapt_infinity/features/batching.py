"""Batches that fit: rows of like length together, within a budget of tokens and of memory.

A row is padded to a length that depends on its own length alone, never on its neighbours': the model then does the same
arithmetic for it whatever the batch. At most an eighth of a batch is padding. Where that takes a second row beside it
(see `TokenBudget.doubles_single_rows`), it has itself for company.
"""

import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch

log = logging.getLogger(__name__)

Result = TypeVar("Result")
GROWTH = 2  # from a batch to the next at most: what a small batch took says little of a large one
SPARE = 0.9  # of the memory target: what a batch costs a token varies a little


def padded_length(length: int) -> int:
    """The length to which a row of `length` tokens is padded: the next of eight steps in every octave."""
    step = max(8, 1 << max(0, (length - 1).bit_length() - 4))
    return -(-length // step) * step


class TokenBudget:
    """Tokens that a batch may have: at most `tokens`, less where memory asks for it.

    `memory_mb` (0: no target) bounds what a batch adds to the memory in use. What a token costs is measured: the first
    batch is a single row, the longest, and every further batch that turns out dearer lowers the budget.
    """

    def __init__(self, tokens: int, memory_mb: int, device: torch.device) -> None:
        self.tokens = tokens
        self._most, self._memory, self._device = tokens, memory_mb * 2**20, device
        self._per_token = 0.0
        if memory_mb:
            self.tokens = 1
            _reset_peak(device)  # refuses a machine on which it cannot be measured

    @property
    def doubles_single_rows(self) -> bool:
        """Whether a single row is read twice. On the CPU a matrix of one row takes another way through the processor,
        which adds in another order; from two rows on, and with one thread, the order is the same for any number. On
        Intel processors that takes the mode which `reproducibility.py` asks for; `batch_invariance.py` tries it out.
        """
        return self._device.type == "cpu"

    def halve(self, tokens: int, why: str) -> None:
        """A batch of `tokens` did not fit: half of it is the most from now on."""
        self._most = max(1, tokens // 2)
        self.tokens = min(self.tokens, self._most)
        log.warning("out of memory (%s): the probe goes on with batches of at most %d tokens", why, self.tokens)

    def measuring(self, tokens: int, work: Callable[[], Result]) -> Result:
        """Do the work of a batch of `tokens`, and learn from what it took."""
        if not self._memory:
            return work()
        before = _reset_peak(self._device)
        result = work()
        self._per_token = max(self._per_token, (_peak(self._device) - before) / tokens)
        fitting = int(SPARE * self._memory / self._per_token) if self._per_token > 0 else self._most
        self.tokens = max(1, min(self._most, fitting, GROWTH * tokens))
        return result


def run_in_batches(
    lengths: Sequence[int], budget: TokenBudget, work: Callable[[list[int], int], Result]
) -> Iterator[tuple[list[int], Result]]:
    """Do `work(places, padded length)` for batches that cover all rows, the longest first; yields places and result.

    A row that would be alone is in its batch twice, on the CPU. A batch that runs out of memory is halved, as is the
    budget. `MemoryError` when a row does not fit alone.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-padded_length(lengths[place]), place))
    while order:
        length = padded_length(lengths[order[0]])
        most = max(1, budget.tokens // length)
        places = [place for place in order[:most] if padded_length(lengths[place]) == length]
        count = len(places)
        if count == 1 and budget.doubles_single_rows:
            places = places * 2
        tokens = len(places) * length
        try:
            result = budget.measuring(tokens, lambda places=places, length=length: work(places, length))  # type: ignore[misc]
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            why = _out_of_memory(error)
            if not why:
                raise
        else:
            order = order[count:]
            yield places, result
            continue
        # here, the error and the tensors that its traceback holds are gone
        if count == 1:
            raise MemoryError(f"a sample of {lengths[places[0]]} tokens does not fit into memory by itself: {why}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        budget.halve(tokens, why)


def _out_of_memory(error: BaseException) -> str:
    """The first line of an error that says that memory ran out; "" for any other error."""
    words = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in words:
        return words
    return ""


def _reset_peak(device: torch.device) -> int:
    """Begin a new measurement; returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # memory that was freed and kept would hide what the next batch takes
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise ValueError("probe.memory_mb can be kept on CUDA devices and on Linux only; set it to 0") from error
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else _status("VmHWM")


def _status(entry: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry + ":"))

"""On one machine: one process a device, or as many as are asked for on the CPU.

With one worker nothing is spawned. Otherwise workers are spawned, not forked: torch's threads do not survive a fork.
Each sees one CUDA device, or has its share of the cores. When a worker dies (the kernel's out-of-memory killer, say),
the tasks that died with it are done again by fresh workers.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any

from adapt_infinity.executors import AHEAD, ATTEMPTS, limit_threads

log = logging.getLogger(__name__)
_work: tuple[Callable[[Any, Any], Any], Any] | None = None  # of a worker: the function and what is shared


def run(function: Callable[[Any, Any], Any], shared: Any, tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """`workers` 0 = one a CUDA device, or one where there is none; `RuntimeError` when workers die again and again."""
    devices = gpus()
    count = workers or max(1, len(devices))
    if count == 1:
        yield from (function(shared, task) for task in tasks)
        return
    left = enumerate(tasks)
    unfinished: dict[int, Any] = {}
    for _ in range(ATTEMPTS):
        try:
            yield from _until_broken(function, shared, left, unfinished, count, devices)
            return
        except BrokenProcessPool:
            log.warning("a worker died; %d tasks are done again by fresh workers", len(unfinished))
    raise RuntimeError(
        f"workers died {ATTEMPTS} times, perhaps for want of memory: ask for fewer workers or smaller batches"
    )


def together(function: Callable[[Any, int], None], shared: Any, workers: int) -> None:
    """In `workers` spawned processes of this machine, which all see its GPUs."""
    from torch.multiprocessing.spawn import start_processes

    start_processes(_ranked, (function, shared), nprocs=workers, start_method="spawn")


def devices() -> int:
    """Of this machine."""
    return len(gpus())


def gpus() -> list[str]:
    """Those of the machine, as CUDA_VISIBLE_DEVICES is to name them one by one."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def numbered(context: Any, count: int) -> Any:
    """A queue of the numbers below `count`, one for each of so many workers of a context of `multiprocessing`."""
    numbers = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    return numbers


def take_gpu(numbers: Any, among: list[str]) -> None:
    """In a worker that has not used one yet: it is to see one GPU only, that of the next of the queued `numbers`."""
    if among:
        os.environ["CUDA_VISIBLE_DEVICES"] = among[numbers.get() % len(among)]


def _ranked(rank: int, function: Callable[[Any, int], None], shared: Any) -> None:
    function(shared, rank)


def _until_broken(
    function: Callable[[Any, Any], Any],
    shared: Any,
    left: Iterator[tuple[int, Any]],
    unfinished: dict[int, Any],
    count: int,
    devices: list[str],
) -> Iterator[Any]:
    """Results as they come. `unfinished` holds what is under way, also after a worker died (`BrokenProcessPool`)."""
    spawn = multiprocessing.get_context("spawn")
    numbers = numbered(spawn, count)
    threads = max(1, (os.cpu_count() or 1) // count)
    waiting: dict[Future[Any], int] = {}
    coming = chain(list(unfinished.items()), _noted(left, unfinished))
    with ProcessPoolExecutor(
        count, mp_context=spawn, initializer=_begin, initargs=(function, shared, numbers, devices, threads)
    ) as pool:
        while True:
            for number, task in islice(coming, AHEAD * count - len(waiting)):
                waiting[pool.submit(_call, task)] = number
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                del unfinished[waiting.pop(future)]
                yield result


def _noted(left: Iterator[tuple[int, Any]], unfinished: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    """Further tasks, each noted as unfinished when it is drawn."""
    for number, task in left:
        unfinished[number] = task
        yield number, task


def _begin(function: Callable[[Any, Any], Any], shared: Any, numbers: Any, devices: list[str], threads: int) -> None:
    global _work
    take_gpu(numbers, devices)
    limit_threads(threads)
    _work = (function, shared)


def _call(task: Any) -> Any:
    assert _work is not None, "a worker begins before it works"
    function, shared = _work
    return function(shared, task)

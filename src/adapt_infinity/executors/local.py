"""The local executor: one process per GPU of this machine or, on the CPU, as many processes as are asked for.

With one worker, the work is done in this process. Otherwise workers are spawned and not forked, because torch's threads
do not survive a fork. Each worker sees one GPU, or has its share of the cores. When a worker dies (for example by the
kernel's out-of-memory killer), the tasks that were lost with it are given to new workers.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any

from adapt_infinity.executors import MAX_ATTEMPTS, QUEUED_PER_WORKER, limit_threads

ON_THIS_MACHINE = True
log = logging.getLogger(__name__)
_work: tuple[Callable[[Any, Any], Any], Any] | None = None  # set in a worker: the function and `shared`


def run(function: Callable[[Any, Any], Any], shared: Any, tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """See the package docstring. With `workers` 0 there is one per GPU, or one worker when there is no GPU.

    `RuntimeError` when workers have died `MAX_ATTEMPTS` times.
    """
    gpus = visible_gpus()
    count = workers or max(1, len(gpus))
    if count == 1:
        yield from (function(shared, task) for task in tasks)
        return
    numbered = enumerate(tasks)
    unfinished: dict[int, Any] = {}
    for _ in range(MAX_ATTEMPTS):
        try:
            yield from _run_until_a_worker_dies(function, shared, numbered, unfinished, count, gpus)
            return
        except BrokenProcessPool:
            log.warning("a worker died; new workers repeat its tasks (%d tasks are unfinished)", len(unfinished))
    raise RuntimeError(
        f"workers died {MAX_ATTEMPTS} times, perhaps because memory ran out: use fewer workers or smaller batches"
    )


def run_together(function: Callable[[Any, int], None], shared: Any, workers: int) -> None:
    """See the package docstring. The workers are spawned processes, and each of them sees all GPUs."""
    from torch.multiprocessing.spawn import start_processes

    start_processes(_call_with_rank, (function, shared), nprocs=workers, start_method="spawn")


def gpu_count() -> int:
    """How many GPUs this process sees."""
    return len(visible_gpus())


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, each as `CUDA_VISIBLE_DEVICES` names it."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def queue_of_numbers(context: Any, count: int) -> Any:
    """A queue that gives each of `count` workers its number; `context` is one of `multiprocessing`."""
    numbers = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    return numbers


def claim_gpu(numbers: Any, gpus: list[str]) -> None:
    """In a worker that has not used a GPU yet: let it see only one of `gpus`, chosen by its number from the queue."""
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[numbers.get() % len(gpus)]


def _call_with_rank(rank: int, function: Callable[[Any, int], None], shared: Any) -> None:
    function(shared, rank)


def _run_until_a_worker_dies(
    function: Callable[[Any, Any], Any],
    shared: Any,
    numbered: Iterator[tuple[int, Any]],
    unfinished: dict[int, Any],
    count: int,
    gpus: list[str],
) -> Iterator[Any]:
    """Results as they are finished. `unfinished` holds the tasks that were begun, by number; they are begun first.

    `BrokenProcessPool` when a worker has died; `unfinished` then holds what must be repeated.
    """
    spawn = multiprocessing.get_context("spawn")
    numbers = queue_of_numbers(spawn, count)
    threads = max(1, (os.cpu_count() or 1) // count)
    waiting: dict[Future[Any], int] = {}
    coming = chain(list(unfinished.items()), _noting_unfinished(numbered, unfinished))
    with ProcessPoolExecutor(
        count, mp_context=spawn, initializer=_initialise_worker, initargs=(function, shared, numbers, gpus, threads)
    ) as pool:
        while True:
            for number, task in islice(coming, QUEUED_PER_WORKER * count - len(waiting)):
                waiting[pool.submit(_call, task)] = number
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                del unfinished[waiting.pop(future)]
                yield result


def _noting_unfinished(numbered: Iterator[tuple[int, Any]], unfinished: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    """The numbered tasks; each is added to `unfinished` when it is drawn."""
    for number, task in numbered:
        unfinished[number] = task
        yield number, task


def _initialise_worker(
    function: Callable[[Any, Any], Any], shared: Any, numbers: Any, gpus: list[str], threads: int
) -> None:
    global _work
    claim_gpu(numbers, gpus)
    limit_threads(threads)
    _work = (function, shared)


def _call(task: Any) -> Any:
    assert _work is not None, "the pool initialises a worker before it calls it"
    function, shared = _work
    return function(shared, task)

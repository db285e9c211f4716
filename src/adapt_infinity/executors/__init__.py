"""Executors: on which processes and machines work is done. One file each, found by file name.

local.py  processes of this machine
ray.py    a Ray cluster

Each file has three functions and one flag:

    run(function, shared, tasks, workers)
        For tasks that do not depend on each other. Yields `function(shared, task)` for every task, in the order in
        which they end. `shared` is sent to each worker once. `tasks` may be an iterator: a task is drawn only when a
        worker will soon be free, so that memory stays bounded.
    run_together(function, shared, workers)
        For workers that wait for each other. Calls `function(shared, rank)` for the ranks 0 to workers − 1, all at the
        same time. What they return is lost. When one fails, the others are stopped and its error is raised.
    gpu_count()
        How many GPUs the executor has.
    ON_THIS_MACHINE
        Whether all workers are processes of this machine.
"""

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from adapt_infinity import registry

RunTogether = Callable[[Callable[[Any, int], None], Any, int], None]
Run = Callable[[Callable[[Any, Any], Any], Any, Iterable[Any], int], Iterator[Any]]
QUEUED_PER_WORKER = 2  # tasks that wait for each worker
MAX_ATTEMPTS = 3  # how often workers may die before the work is given up
Job = TypeVar("Job")
Opened = TypeVar("Opened")


def names() -> list[str]:
    """The names of all executors."""
    return registry.names(__name__)


def load(name: str) -> Run:
    """The function `run` of the executor `name`. `ValueError` lists the known ones."""
    run: Run = registry.load(__name__, name, "run")
    return run


def load_run_together(name: str) -> RunTogether:
    """The function `run_together` of the executor `name`. `ValueError` lists the known ones."""
    run_together: RunTogether = registry.load(__name__, name, "run_together")
    return run_together


def gpu_count(name: str) -> int:
    """How many GPUs the executor `name` has. `ValueError` lists the known ones."""
    count: Callable[[], int] = registry.load(__name__, name, "gpu_count")
    return count()


def on_this_machine(name: str) -> bool:
    """Whether all workers of the executor `name` are processes of this machine. `ValueError` lists the known ones."""
    return bool(registry.module(__name__, name).ON_THIS_MACHINE)


def limit_threads(count: int) -> None:
    """Let torch use `count` threads in this process, if torch is imported at all (its import takes seconds)."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


class ProcessCache(Generic[Job, Opened]):
    """Keeps what a process has opened for its latest job, such as a model, from one task to the next."""

    def __init__(self, opener: Callable[[Job], Opened]) -> None:
        self._opener = opener
        self._latest: tuple[Job, Opened] | None = None

    def get(self, job: Job) -> Opened:
        """What was opened for an equal job before, or else what the opener makes of this one."""
        if self._latest is None or self._latest[0] != job:
            self.release()  # before the next is opened: two would not fit into memory
            self._latest = job, self._opener(job)
        return self._latest[1]

    def release(self) -> None:
        """Free what is kept: the work that follows in this process needs the memory."""
        self._latest = None
        gc.collect()  # what was opened may contain reference cycles

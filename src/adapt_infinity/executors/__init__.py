"""Executors: who does the work; one file each, found by name.

Each has a function for tasks that know nothing of each other, `run(function, shared, tasks, workers)`, which yields
`function(shared, task)` for every task, in whatever order they end. `shared` reaches each worker once (or where that is
cheaper, by reference); `tasks` may be an iterator and is drawn on only as workers become free, so that its memory stays
bounded.

And one for tasks that wait for each other: `together(function, shared, workers)` calls `function(shared, rank)` for the
ranks 0 to workers − 1, all at once. What they return is lost; where one fails, the others are stopped and its error is
raised. `devices()` says how many GPUs there are to work with.
"""

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from adapt_infinity import registry

Together = Callable[[Callable[[Any, int], None], Any, int], None]
Run = Callable[[Callable[[Any, Any], Any], Any, Iterable[Any], int], Iterator[Any]]
AHEAD = 2  # tasks a worker that wait for it
ATTEMPTS = 3  # workers that a task may lose before it is given up
Job = TypeVar("Job")
ProbeWorker = TypeVar("ProbeWorker")


def names() -> list[str]:
    """Every executor there is."""
    return registry.names(__name__)


def check(key: str, name: str) -> None:
    """`ValueError` where the parameter `key` names no executor: a typo is found before anything runs."""
    if name not in names():
        raise ValueError(f"{key} must be {' or '.join(names())}, got {name!r}")


def load(name: str) -> Run:
    """The executor `name`; `ValueError` names the known ones."""
    run: Run = registry.load(__name__, name, "run")
    return run


def load_together(name: str) -> Together:
    """`together` of the executor `name`; `ValueError` names the known ones."""
    together: Together = registry.load(__name__, name, "together")
    return together


def devices(name: str) -> int:
    """GPUs that the executor `name` has."""
    count: Callable[[], int] = registry.load(__name__, name, "devices")
    return count()


def limit_threads(count: int) -> None:
    """A worker has its share of the cores, if its work is torch's at all (whose import takes seconds)."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


class ProcessCache(Generic[Job, ProbeWorker]):
    """What a process opens for a job, a model above all, and keeps from one of its tasks to the next."""

    def __init__(self, opens: Callable[[Job], ProbeWorker]) -> None:
        self._opens = opens
        self._latest: tuple[Job, ProbeWorker] | None = None

    def of(self, job: Job) -> ProbeWorker:
        """ProbeWorker for this job, or for an equal one before."""
        if self._latest is None or self._latest[0] != job:
            self.release()  # the former goes before the next one comes
            self._latest = job, self._opens(job)
        return self._latest[1]

    def release(self) -> None:
        """Let go of it: what follows in this process needs its memory."""
        self._latest = None
        gc.collect()  # what is opened may refer to itself

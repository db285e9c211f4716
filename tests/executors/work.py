"""Functions that the tests of executors run; in a file of their own, so that a spawned worker can import them."""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def last_task_first(
    function: Callable[[Any, Any], Any], shared: Any, tasks: Iterable[Any], workers: int
) -> Iterator[Any]:
    """An executor that starts no process.

    As with two workers, what it is given is copied, and tasks end in another order.
    """
    assert workers == 2
    for task in reversed(list(tasks)):
        yield function(*pickle.loads(pickle.dumps((shared, task))))


def add(shared: int, task: int) -> int:
    """A task that ends at once."""
    return shared + task


def add_unless_killed(shared: Path, task: int) -> int:
    """The worker that runs task 3 is killed, the first time only."""
    if task == 3 and not (shared / "killed").exists():
        (shared / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return task


def always_killed(shared: Path, task: int) -> int:
    """Every worker that runs this is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def refuse(shared: int, task: int) -> int:
    """A task that fails; its worker lives on."""
    raise ValueError(f"task {task} is wrong")


def wait_for_other_rank(shared: Path, rank: int) -> None:
    """Return when the other of two ranks has started, too."""
    (shared / str(rank)).touch()
    _wait_for(shared / str(1 - rank))


def fail_on_rank_1(shared: Path, rank: int) -> None:
    """Rank 1 fails, and rank 0 waits for something that never happens."""
    if rank == 1:
        raise ValueError("rank 1 is wrong")
    _wait_for(shared / "never")


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)

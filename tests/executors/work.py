"""Work for the executors' tests: importable by a worker that was spawned."""

import os
import signal
import time
from pathlib import Path


def add(shared: int, task: int) -> int:
    """Quick work."""
    return shared + task


def add_unless_killed(shared: Path, task: int) -> int:
    """The worker of task 3 is killed, the first time."""
    if task == 3 and not (shared / "killed").exists():
        (shared / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return task


def always_killed(shared: Path, task: int) -> int:
    """No worker survives this."""
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def refuse(shared: int, task: int) -> int:
    """A mistake of the task, not of the worker."""
    raise ValueError(f"task {task} is wrong")


def meet(shared: Path, rank: int) -> None:
    """Return when rank 1 − rank has been seen."""
    (shared / str(rank)).touch()
    _wait_for(shared / str(1 - rank))


def fail_alone(shared: Path, rank: int) -> None:
    """Rank 1 makes a mistake for which rank 0 waits in vain."""
    if rank == 1:
        raise ValueError("rank 1 is wrong")
    _wait_for(shared / "never")


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.05)

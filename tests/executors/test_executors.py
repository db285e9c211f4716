"""Whoever does the tasks: each is done, also when a worker is killed; a mistake is reported as it is."""

import multiprocessing
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapt_infinity import executors
from adapt_infinity.executors import local
from tests.executors import work

EVERY = executors.names()


def test_there_are_two() -> None:
    assert EVERY == ["local", "ray"]


pytestmark = pytest.mark.usefixtures("cluster")


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done(name: str, workers: int) -> None:
    assert sorted(executors.load(name)(work.add, 10, iter(range(7)), workers)) == list(range(10, 17))


@pytest.mark.parametrize("name", EVERY)
def test_no_task_is_lost_with_a_killed_worker(name: str, tmp_path: Path) -> None:
    done = list(executors.load(name)(work.add_unless_killed, tmp_path, range(9), 3))
    assert (tmp_path / "killed").exists()
    assert sorted(set(done)) == list(range(9))
    assert len(done) == 9


def test_workers_that_die_again_and_again_are_given_up(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"workers died 3 times.*fewer workers or smaller batches"):
        list(executors.load("local")(work.always_killed, tmp_path, range(2), 2))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_of_a_task_is_its_own(name: str, workers: int) -> None:
    with pytest.raises(ValueError, match="task 0 is wrong"):
        list(executors.load(name)(work.refuse, 0, [0], workers))


@pytest.mark.parametrize("name", EVERY)
def test_tasks_are_drawn_as_workers_become_free(name: str) -> None:
    drawn = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = executors.load(name)(work.add, 0, tasks(), 2)
    next(iter(results))
    assert len(drawn) <= 2 * executors.AHEAD + 2


@pytest.mark.parametrize("name", EVERY)
def test_those_who_work_together_work_at_once(name: str, tmp_path: Path) -> None:
    executors.load_together(name)(work.meet, tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


@pytest.mark.parametrize("name", EVERY)
def test_nobody_waits_for_one_that_has_failed(name: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Exception, match="rank 1 is wrong"):
        executors.load_together(name)(work.fail_alone, tmp_path, 2)
    assert time.monotonic() - begun < 250, "the other would wait for 300 seconds"


def test_more_than_a_cluster_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="99 workers are to work together, and the Ray cluster has 3 CPUs"):
        executors.load_together("ray")(work.meet, tmp_path, 99)


@pytest.mark.parametrize("name", EVERY)
def test_gpus_are_counted(name: str) -> None:
    assert executors.devices(name) == torch.cuda.device_count()


def test_gpus_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    numbers = local.numbered(multiprocessing.get_context("spawn"), 3)
    local.take_gpu(numbers, [])
    assert "CUDA_VISIBLE_DEVICES" not in os.environ, "there is none to see"
    seen = []
    for _ in range(3):
        local.take_gpu(numbers, ["4", "6"])
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "6", "4"]


def test_what_is_kept_serves_equal_jobs_and_goes_before_the_next_comes() -> None:
    alive: set[str] = set()

    class Model:
        def __init__(self, job: list[str]) -> None:
            assert not alive
            alive.update(job)
            weakref.finalize(self, alive.difference_update, job)

    kept = executors.ProcessCache(Model)
    first = weakref.ref(kept.of(["a"]))
    assert kept.of(["a"]) is first()
    kept.of(["b"])
    assert alive == {"b"}
    kept.release()
    assert not alive

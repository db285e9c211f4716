"""Every executor finishes every task, also when a worker is killed, and reports a task's error as it is."""

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


@pytest.fixture(
    params=[name if executors.on_this_machine(name) else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
)
def name(request: pytest.FixtureRequest) -> str:
    """Each executor; a cluster takes seconds to start."""
    if not executors.on_this_machine(request.param):
        request.getfixturevalue("cluster")
    return str(request.param)


def test_executors_are_found_by_file_name() -> None:
    assert EVERY == ["local", "ray"]
    assert [executors.on_this_machine(name) for name in EVERY] == [True, False]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done(name: str, workers: int) -> None:
    assert sorted(executors.load(name)(work.add, 10, iter(range(7)), workers)) == list(range(10, 17))


def test_no_task_is_lost_when_a_worker_is_killed(name: str, tmp_path: Path) -> None:
    done = list(executors.load(name)(work.add_unless_killed, tmp_path, range(9), 3))
    assert (tmp_path / "killed").exists()
    assert sorted(set(done)) == list(range(9))
    assert len(done) == 9


def test_local_gives_up_when_workers_die_repeatedly(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"workers died 3 times.*fewer workers or smaller batches"):
        list(executors.load("local")(work.always_killed, tmp_path, range(2), 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised_as_it_is(name: str, workers: int) -> None:
    with pytest.raises(ValueError, match="task 0 is wrong"):
        list(executors.load(name)(work.refuse, 0, [0], workers))


def test_tasks_are_drawn_only_as_workers_become_free(name: str) -> None:
    drawn = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = executors.load(name)(work.add, 0, tasks(), 2)
    next(iter(results))
    assert len(drawn) <= 2 * executors.QUEUED_PER_WORKER + 2


def test_run_together_runs_all_workers_at_the_same_time(name: str, tmp_path: Path) -> None:
    executors.load_run_together(name)(work.wait_for_other_rank, tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


@pytest.mark.slow
def test_run_together_stops_the_others_when_one_worker_fails(name: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Exception, match="rank 1 is wrong"):
        executors.load_run_together(name)(work.fail_on_rank_1, tmp_path, 2)
    assert time.monotonic() - begun < 250, "rank 0 would wait for 300 seconds"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_refuses_more_workers_at_a_time_than_the_cluster_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="99 workers must run at the same time, but the Ray cluster has 3 CPUs"):
        executors.load_run_together("ray")(work.wait_for_other_rank, tmp_path, 99)


def test_gpus_are_counted(name: str) -> None:
    assert executors.gpu_count(name) == torch.cuda.device_count()


def test_workers_share_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    numbers = local.queue_of_numbers(multiprocessing.get_context("spawn"), 3)
    local.claim_gpu(numbers, [])
    assert "CUDA_VISIBLE_DEVICES" not in os.environ, "there is no GPU to choose"
    seen = []
    for _ in range(3):
        local.claim_gpu(numbers, ["4", "6"])
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "6", "4"]


def test_process_cache_serves_equal_jobs_and_frees_memory_before_the_next_job() -> None:
    alive: set[str] = set()

    class Model:
        def __init__(self, job: list[str]) -> None:
            assert not alive
            alive.update(job)
            weakref.finalize(self, alive.difference_update, job)

    cache = executors.ProcessCache(Model)
    first = weakref.ref(cache.get(["a"]))
    assert cache.get(["a"]) is first()
    cache.get(["b"])
    assert alive == {"b"}
    cache.release()
    assert not alive

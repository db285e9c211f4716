"""The Ray executor: each task is a Ray task, with one GPU each where the cluster has any (extra `[ray]`).

`ray.init` joins the cluster that the environment variable RAY_ADDRESS names, or starts one on this machine. Ray itself
repeats a task whose worker is lost. All workers must see the same files: shards, checkpoint and pictures.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from adapt_infinity.executors import MAX_ATTEMPTS, limit_threads

ON_THIS_MACHINE = False


def run(function: Callable[[Any, Any], Any], shared: Any, tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """See the package docstring. With `workers` 0 there is one per GPU of the cluster, or one per CPU without GPUs.

    `ModuleNotFoundError` names the extra to install when Ray is missing.
    """
    ray = _joined_cluster()
    gpus, cpus = gpu_count(), int(ray.cluster_resources().get("CPU", 1))
    count = workers or gpus or cpus
    remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=MAX_ATTEMPTS)(_call)
    stored = ray.put((function, shared))
    remaining = iter(tasks)
    waiting = [remote.remote(stored, task) for task in islice(remaining, count)]
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        waiting += [remote.remote(stored, task) for task in islice(remaining, len(done))]
        yield from ray.get(done)


def run_together(function: Callable[[Any, int], None], shared: Any, workers: int) -> None:
    """See the package docstring. The Ray tasks start when the cluster has room for all of them.

    `ValueError` when the cluster is too small for that.
    """
    ray = _joined_cluster()
    from ray.util import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    gpus = gpu_count()
    kind, available = ("GPU", gpus) if gpus else ("CPU", int(ray.cluster_resources().get("CPU", 0)))
    if workers > available:
        raise ValueError(f"{workers} workers must run at the same time, but the Ray cluster has {available} {kind}s")
    needs = {"CPU": 1, "GPU": 1} if kind == "GPU" else {"CPU": 1}
    group = placement_group([needs] * workers, strategy="PACK")
    ray.get(group.ready())
    placement = PlacementGroupSchedulingStrategy(group)
    options = {"num_cpus": 1, "num_gpus": needs.get("GPU", 0), "max_retries": 0, "scheduling_strategy": placement}
    stored = ray.put((function, shared))
    try:
        ray.get([ray.remote(**options)(_call).remote(stored, rank) for rank in range(workers)])
    finally:
        remove_placement_group(group)  # this stops the workers that still wait for a failed one


def gpu_count() -> int:
    """How many GPUs the whole cluster has."""
    return int(_joined_cluster().cluster_resources().get("GPU", 0))


def _joined_cluster() -> Any:
    """The module `ray`, after it has joined a cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('the executor ray needs Ray: pip install "adapt-infinity[ray]"') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    return ray


def _call(work: tuple[Callable[[Any, Any], Any], Any], task: Any) -> Any:
    limit_threads(1)
    function, shared = work
    return function(shared, task)

"""A Ray cluster: each task is a Ray task, with one GPU where the cluster has any (extra `[ray]`).

`ray.init` joins the cluster that RAY_ADDRESS names, or starts one on this machine. A task whose worker is lost is done
again by Ray itself. All workers must see the same files: the store of shards, the checkpoint and the pictures.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from adapt_infinity.executors import ATTEMPTS, limit_threads


def run(function: Callable[[Any, Any], Any], shared: Any, tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """`workers` 0 = one a GPU of the cluster, or one a CPU; `ModuleNotFoundError` names the extra."""
    ray = _joined()
    gpus, cpus = devices(), int(ray.cluster_resources().get("CPU", 1))
    count = workers or gpus or cpus
    remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=ATTEMPTS)(_call)
    everywhere = ray.put((function, shared))
    left = iter(tasks)
    waiting = [remote.remote(everywhere, task) for task in islice(left, count)]
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        waiting += [remote.remote(everywhere, task) for task in islice(left, len(done))]
        yield from ray.get(done)


def together(function: Callable[[Any, int], None], shared: Any, workers: int) -> None:
    """As `workers` Ray tasks, which begin when there is room for all of them; `ValueError` when there never will be."""
    ray = _joined()
    from ray.util import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    kind, there = ("GPU", devices()) if devices() else ("CPU", int(ray.cluster_resources().get("CPU", 0)))
    if workers > there:
        raise ValueError(f"{workers} workers are to work together, and the Ray cluster has {there} {kind}s")
    needs = {"CPU": 1, "GPU": 1} if kind == "GPU" else {"CPU": 1}
    group = placement_group([needs] * workers, strategy="PACK")
    ray.get(group.ready())
    place = PlacementGroupSchedulingStrategy(group)
    options = {"num_cpus": 1, "num_gpus": needs.get("GPU", 0), "max_retries": 0, "scheduling_strategy": place}
    everywhere = ray.put((function, shared))
    try:
        ray.get([ray.remote(**options)(_call).remote(everywhere, rank) for rank in range(workers)])
    finally:
        remove_placement_group(group)  # and with it whoever still waits for one that has failed


def devices() -> int:
    """Of the whole cluster."""
    return int(_joined().cluster_resources().get("GPU", 0))


def _joined() -> Any:
    """Ray, with a cluster."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('executor ray needs Ray: pip install "adapt-infinity[ray]"') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    return ray


def _call(work: tuple[Callable[[Any, Any], Any], Any], task: Any) -> Any:
    limit_threads(1)
    function, shared = work
    return function(shared, task)

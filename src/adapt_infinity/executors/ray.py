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
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('executor ray needs Ray: pip install "adapt-infinity[ray]"') from error
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    count = workers or gpus or int(resources.get("CPU", 1))
    remote = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=ATTEMPTS)(_call)
    everywhere = ray.put((function, shared))
    left = iter(tasks)
    waiting = [remote.remote(everywhere, task) for task in islice(left, count)]
    while waiting:
        done, waiting = ray.wait(waiting, num_returns=1)
        waiting += [remote.remote(everywhere, task) for task in islice(left, len(done))]
        yield from ray.get(done)


def _call(work: tuple[Callable[[Any, Any], Any], Any], task: Any) -> Any:
    limit_threads(1)
    function, shared = work
    return function(shared, task)

"""Data strategies: what a study compares. One file each, with

    select(...) -> subset        which pool rows this round trains on
    keep(...) -> removals        which of them leave the pool for good

whose arguments are taken by name from: pool_rows, round, features, clusters, cluster_experts, must_keep,
subset_params, pruning_params. The pipeline wires what a strategy names, so one that reads no features pays for no
probe. `must_keep` lists the samples that `keep` may not remove; a round whose strategy removes one stops.
"""

from types import ModuleType

from adapt_infinity import rooms


def names() -> list[str]:
    """The strategies that there are, by file name."""
    return rooms.names(__name__)


def load(name: str) -> ModuleType:
    """The strategy `name`; `ValueError` lists those that there are."""
    return rooms.module(__name__, name)

"""Pruning rules: which rows of one cluster leave. One file per rule, each with the function

prune_cluster(neighbours, budget, protected) -> kept, duplicate_of, cosine

`neighbours` answers nearest-neighbour queries about the cluster's rows, which are in rank order; the first `protected`
rows must stay; `budget` is the number of rows to keep. `kept` has one entry per row. `duplicate_of` and `cosine` have
one entry per removed row, in rank order: the row that it duplicates, and the cosine of the two.
"""

from typing import Any

from adapt_infinity import registry


def names() -> list[str]:
    """All rules, by file name."""
    return registry.names(__name__)


def load(name: str) -> Any:
    """`prune_cluster` of the rule `name`; `ValueError` lists the known rules."""
    return registry.load(__name__, name, "prune_cluster")

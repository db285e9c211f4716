"""Rules of pruning: which rows of a cluster leave. One file each, with

thin_out(neighbours, budget, protected) -> kept, twin, cosine

`neighbours` knows the cluster's rows in rank order, of which the first `protected` must stay; `budget` of them are
kept. For each row that is lost, in rank order: the row it duplicates and their cosine.
"""

from typing import Any

from adapt_infinity import registry


def names() -> list[str]:
    """The rules that there are, by file name."""
    return registry.names(__name__)


def load(name: str) -> Any:
    """The rule `name`; `ValueError` lists those that there are."""
    return registry.load(__name__, name, "thin_out")

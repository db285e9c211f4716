"""Greedy pruning: M compares a row with the earlier-ranked rows that are *still kept* (docs/method.md, section 7).

The row with the highest M is removed (of equal ones, the row ranked last). The M of the rows that resembled it is then
computed again, and so on until the budget is met. Therefore: the budget is met exactly, without a threshold to be
found; of any pair of duplicates the later-ranked row is removed; the first-ranked row stays; and no row is removed for
resembling a row that is already gone. (Adding the row farthest from the kept rows, step by step, would be exact too,
but then the ranking would decide nothing except the first row.) A removed row is reported as a duplicate of the most
similar row that is kept in the end.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int

from adapt_infinity.pruning.nearest import Neighbours
from adapt_infinity.pruning.search import RedundancySearch


def prune_cluster(
    neighbours: Neighbours, budget: int, protected: int
) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " removed"], Float64[np.ndarray, " removed"]]:
    """Remove the row with the highest M among the kept rows, again and again."""
    kept = RedundancySearch(neighbours, protected, among_kept=True).prune(budget)
    return kept, *neighbours.most_similar(np.flatnonzero(~kept), np.flatnonzero(kept), earlier_only=False)

"""SemDeDup (Abbas et al. 2023, arXiv:2303.09540): M compares a row with *all* earlier-ranked rows; the lowest M stay.

In a chain a ~ b ~ c both b and c count as duplicates, although c resembles only a row that is itself removed. A removed
row is reported as a duplicate of the most similar earlier-ranked row, which may be removed too. The published rule
keeps every row with M below a threshold; here the budget takes the place of the threshold.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int

from adapt_infinity.pruning.nearest import Neighbours
from adapt_infinity.pruning.search import RedundancySearch


def prune_cluster(
    neighbours: Neighbours, budget: int, protected: int
) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " removed"], Float64[np.ndarray, " removed"]]:
    """Remove the rows with the highest M; of equal ones the last-ranked first."""
    search = RedundancySearch(neighbours, protected, among_kept=False)
    kept = search.prune(budget)
    found, duplicate_of = search.nearest_earlier()
    removed, cosine = ~kept, search.bound
    missing = np.flatnonzero(removed & ~found)
    duplicate_of[missing], cosine[missing] = neighbours.most_similar(missing, np.arange(len(kept)), earlier_only=True)
    return kept, duplicate_of[removed], cosine[removed]

"""SemDeDup (Abbas et al. 2023, arXiv:2303.09540): M over *all* earlier-ranked rows; the lowest M are kept.

In a chain a ~ b ~ c both b and c count as duplicates, although c resembles only a row that is itself lost. A lost
row's twin is the most similar earlier-ranked row, which may be lost too. The published rule keeps what lies below a
threshold; here the budget is the threshold.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int

from adapt_infinity.pruning.nearest import Neighbours
from adapt_infinity.pruning.search import Search


def thin_out(
    neighbours: Neighbours, budget: int, protected: int
) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " lost"], Float64[np.ndarray, " lost"]]:
    """Lose the rows with the highest M; of equal ones the last-ranked first."""
    search = Search(neighbours, protected, among_kept=False)
    kept = search.thin_out(budget)
    found, nearest = search.nearest_before()
    lost, twin, cosine = ~kept, nearest, search.bound
    open_ = np.flatnonzero(lost & ~found)
    twin[open_], cosine[open_] = neighbours.most_similar(open_, np.arange(len(kept)), before=True)
    return kept, twin[lost], cosine[lost]

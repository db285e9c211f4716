"""Greedy: M over the earlier-ranked rows that are *still kept* (METHOD section 7).

The row with the highest M is removed (of equal ones, the row ranked last), the M of those that resembled it is taken
anew, and so on until the budget is met. So the budget is met exactly without a threshold to be found, of any pair the
later-ranked row goes, the first-ranked row stays, and none goes for resembling one already gone. (Adding the row
farthest from those kept, step by step, would be as exact, but the ranking would then decide nothing beyond the first
row.) A lost row's twin is the most similar of the rows kept in the end.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int

from adapt_infinity.pruning.nearest import Neighbours
from adapt_infinity.pruning.search import Search


def thin_out(
    neighbours: Neighbours, budget: int, protected: int
) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " lost"], Float64[np.ndarray, " lost"]]:
    """Lose the row with the highest M among the kept, again and again."""
    kept = Search(neighbours, protected, among_kept=True).thin_out(budget)
    return kept, *neighbours.most_similar(np.flatnonzero(~kept), np.flatnonzero(kept), before=False)

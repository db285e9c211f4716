"""The search that all pruning rules use: again and again, remove the row that most resembles an earlier-ranked row.

M of a row is its highest cosine to an earlier-ranked row that counts (the rule says which rows count). A heap holds an
upper bound of every row's M. Only the row on top is examined: if its M is known exactly and no bound is higher, its M
is the highest. So the exact M of a row that never comes near the top is never computed. M only falls as rows are
removed, so old values remain upper bounds.
"""

import heapq
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int

from adapt_infinity.pruning.nearest import Neighbours, Shortlists


class RedundancySearch:
    """The state of the search in one cluster; rows are numbered in rank order.

    The first `protected` rows never leave. With `among_kept` only rows that are still kept count for M, otherwise all
    earlier-ranked rows do.
    """

    def __init__(self, neighbours: Neighbours, protected: int, among_kept: bool) -> None:
        self.neighbours, self.protected, self.among_kept = neighbours, protected, among_kept
        n, size = len(neighbours.rows), neighbours.shortlist_size
        all_rows = np.arange(n)
        self.kept = np.ones(n, dtype=bool)
        self.lists = Shortlists(np.full((n, size), -1), np.full((n, size), -np.inf))
        self.level = np.zeros(n, dtype=np.int64)  # of the bound cascade, from which each row's shortlist comes
        found = neighbours.shortlist(0, all_rows[protected:], all_rows, earlier_only=True)
        self.lists.neighbours[protected:], self.lists.bounds[protected:] = found.neighbours, found.bounds
        self.bound: Float64[np.ndarray, " members"] = self.lists.bounds[:, 0].copy()
        self.nearest: Int[np.ndarray, " members"] = np.full(n, -1)  # the row whose cosine is M
        self.known: Bool[np.ndarray, " members"] = np.isneginf(self.bound)  # whether the bound was once M itself

    def prune(self, budget: int) -> Bool[np.ndarray, " members"]:
        """Which rows are kept: `budget` of them, or the protected rows if those are more."""
        count = max(0, len(self.kept) - max(budget, self.protected))
        for row in self._highest_first(count):
            self.kept[row] = False
        return self.kept

    def nearest_earlier(self) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " members"]]:
        """The earlier-ranked row whose cosine is M, and for which rows the search found it with no equal beside it."""
        assert not self.among_kept, "with among_kept, the rows that count changed during the search"
        return self.known & (self.bound > self.lists.bounds[:, -1]), self.nearest

    def _highest_first(self, count: int) -> Iterator[int]:
        """`count` rows, each the one with the highest M at its turn; of equal ones the last-ranked first."""
        heap = [(-bound, -row) for row, bound in enumerate(self.bound.tolist()) if row >= self.protected]
        heapq.heapify(heap)
        for _ in range(count):
            while True:
                row = -heap[0][1]
                if self.bound[row] < -heap[0][0]:
                    heapq.heapreplace(heap, (-float(self.bound[row]), -row))
                elif self._is_exact(row):
                    break
                else:
                    self._make_exact(row)
            heapq.heappop(heap)
            yield row

    def _is_exact(self, row: int) -> bool:
        """Whether the bound of a row is its M."""
        nearest = self.nearest[row]
        return bool(self.known[row] and (nearest < 0 or self._counted()[nearest]))

    def _counted(self) -> Bool[np.ndarray, " members"]:
        """Which rows count for the M of later-ranked rows."""
        return self.kept if self.among_kept else np.ones_like(self.kept)

    def _make_exact(self, row: int) -> None:
        """Make the bound of a row its M; rows that are likely to be needed next are done in the same block."""
        if not self.known[row]:
            rows = self._top_rows(~self.known)
            undecided = rows[~self._verify(rows)]
        else:
            undecided = np.array([row])
            if self._verify(undecided)[0]:
                return
            counted = self._counted()
            rows = self._top_rows((self.nearest >= 0) & ~counted[self.nearest])
            undecided = np.union1d(rows[~self._verify(rows)], undecided)
        while len(undecided):
            self._refresh_shortlists(undecided)
            undecided = undecided[~self._verify(undecided)]

    def _top_rows(self, among: Bool[np.ndarray, " members"]) -> Int[np.ndarray, " rows"]:
        """At most one block of the rows that come first in the heap, ascending."""
        rows = np.flatnonzero(among & self.kept)
        rows = rows[rows >= self.protected]
        block = self.neighbours.block
        if len(rows) > block:
            rows = np.sort(rows[np.lexsort((-rows, -self.bound[rows]))[:block]])
        return rows

    def _verify(self, rows: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """Compute M from the shortlists; False for a row where an unlisted row might be more similar."""
        lists = Shortlists(self.lists.neighbours[rows], self.lists.bounds[rows])
        best, nearest = self.neighbours.verify(rows, lists, self._counted())
        decided = best >= lists.bounds[:, -1]
        self.known[rows] |= decided
        self.nearest[rows] = np.where(decided, nearest, self.nearest[rows])
        self.bound[rows] = np.where(decided, best, self.bound[rows])
        return decided

    def _refresh_shortlists(self, rows: Int[np.ndarray, " rows"]) -> None:
        """New shortlists of the rows that count now.

        Where listed rows still count and the list decided nothing all the same, the next finer bound is used.
        """
        counted = self._counted()
        listed = self.lists.neighbours[rows]
        too_coarse = ((listed >= 0) & counted[listed]).any(axis=1)
        self.level[rows] = np.minimum(self.level[rows] + too_coarse, len(self.neighbours.cascade) - 1)
        candidates = np.flatnonzero(counted)
        for level in np.unique(self.level[rows]):
            these = rows[self.level[rows] == level]
            found = self.neighbours.shortlist(int(level), these, candidates, earlier_only=True)
            self.lists.neighbours[these], self.lists.bounds[these] = found.neighbours, found.bounds

"""The search that both rules are: while too many rows are left, the one that most resembles a row ranked before goes.

Every row has an upper bound of its M, the highest cosine to an earlier-ranked row that counts, in a heap. Only the row
on top is looked at: if its M is known and not below anybody's bound, it is the highest. So the exact M of a row that
never comes near the top is never computed, and M only falls as rows leave, which keeps old values bounds.
"""

import heapq
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int

from adapt_infinity.pruning.nearest import Neighbours, Shortlists


class Search:
    """The state of one cluster's thinning; rows are numbers in rank order.

    `protected` rows lead the ranking and never leave. With `among_kept` only rows that are still kept count for M,
    otherwise all earlier-ranked ones do.
    """

    def __init__(self, neighbours: Neighbours, protected: int, among_kept: bool) -> None:
        self.neighbours, self.protected, self.among_kept = neighbours, protected, among_kept
        n = len(neighbours.rows)
        everyone = np.arange(n)
        self.kept = np.ones(n, dtype=bool)
        self.lists = Shortlists(np.full((n, neighbours.nearest), -1), np.full((n, neighbours.nearest), -np.inf))
        self.level = np.zeros(n, dtype=np.int64)
        found = neighbours.shortlist(0, everyone[protected:], everyone, before=True)
        self.lists.neighbours[protected:], self.lists.bounds[protected:] = found.neighbours, found.bounds
        self.bound: Float64[np.ndarray, " members"] = self.lists.bounds[:, 0].copy()
        self.witness: Int[np.ndarray, " members"] = np.full(n, -1)  # a row whose cosine is M
        self.known: Bool[np.ndarray, " members"] = np.isneginf(self.bound)  # whether the bound was once M itself

    def thin_out(self, budget: int) -> Bool[np.ndarray, " members"]:
        """Which rows are kept: `budget` of them, or the protected ones if they are more."""
        leaving = max(0, len(self.kept) - max(budget, self.protected))
        for row in self._in_order(leaving):
            self.kept[row] = False
        return self.kept

    def nearest_before(self) -> tuple[Bool[np.ndarray, " members"], Int[np.ndarray, " members"]]:
        """For which rows the one whose cosine is M was found on the way, no other being as similar; and which it is."""
        assert not self.among_kept, "what counted has changed on the way"
        return self.known & (self.bound > self.lists.bounds[:, -1]), self.witness

    def _in_order(self, count: int) -> Iterator[int]:
        """The rows with the highest M, one after another; of equal ones the last-ranked first."""
        heap = [(-bound, -row) for row, bound in enumerate(self.bound.tolist()) if row >= self.protected]
        heapq.heapify(heap)
        for _ in range(count):
            while True:
                row = -heap[0][1]
                if self.bound[row] < -heap[0][0]:
                    heapq.heapreplace(heap, (-float(self.bound[row]), -row))
                elif self._is_current(row):
                    break
                else:
                    self._look_up(row)
            heapq.heappop(heap)
            yield row

    def _is_current(self, row: int) -> bool:
        """Whether a row's bound is its M."""
        witness = self.witness[row]
        return bool(self.known[row] and (witness < 0 or self._counts()[witness]))

    def _counts(self) -> Bool[np.ndarray, " members"]:
        return self.kept if self.among_kept else np.ones_like(self.kept)

    def _look_up(self, row: int) -> None:
        """Make a row's bound its M; others that are likely to come next are looked up with it."""
        if not self.known[row]:
            rows = self._next(~self.known)
            undecided = rows[~self._verify(rows)]
        else:
            undecided = np.array([row])
            if self._verify(undecided)[0]:
                return
            counts = self._counts()
            rows = self._next((self.witness >= 0) & ~counts[self.witness])
            undecided = np.union1d(rows[~self._verify(rows)], undecided)
        while len(undecided):
            self._list_anew(undecided)
            undecided = undecided[~self._verify(undecided)]

    def _next(self, among: Bool[np.ndarray, " members"]) -> Int[np.ndarray, " rows"]:
        """The rows that come first in the heap, a block of them, ascending."""
        rows = np.flatnonzero(among & self.kept)
        rows = rows[rows >= self.protected]
        block = self.neighbours.block
        if len(rows) > block:
            rows = np.sort(rows[np.lexsort((-rows, -self.bound[rows]))[:block]])
        return rows

    def _verify(self, rows: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """Look rows up in their lists; False where one that is not listed might be more similar."""
        lists = Shortlists(self.lists.neighbours[rows], self.lists.bounds[rows])
        best, witness = self.neighbours.verify(rows, lists, self._counts())
        decided = best >= lists.bounds[:, -1]
        self.known[rows] |= decided
        self.witness[rows] = np.where(decided, witness, self.witness[rows])
        self.bound[rows] = np.where(decided, best, self.bound[rows])
        return decided

    def _list_anew(self, rows: Int[np.ndarray, " rows"]) -> None:
        """New lists of what still counts; by a finer screen where what is listed is there and yet decides nothing."""
        counts = self._counts()
        listed = self.lists.neighbours[rows]
        vague = ((listed >= 0) & counts[listed]).any(axis=1)
        self.level[rows] = np.minimum(self.level[rows] + vague, len(self.neighbours.screens) - 1)
        candidates = np.flatnonzero(counts)
        for level in np.unique(self.level[rows]):
            these = rows[self.level[rows] == level]
            found = self.neighbours.shortlist(int(level), these, candidates, before=True)
            self.lists.neighbours[these], self.lists.bounds[these] = found.neighbours, found.bounds

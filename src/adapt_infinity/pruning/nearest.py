"""Exact nearest neighbours among the rows of one cluster: shortlisted by upper bounds, then verified.

The bounds come from bound_cascade.py, the exact cosines from cosines.py. Memory holds the cluster's rows, one block of
bounds (block · members) and one shortlist per row; never members².
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from adapt_infinity.pruning.bound_cascade import Bounds
from adapt_infinity.pruning.cosines import pair_cosines, rounded


@dataclass
class Shortlists:
    """For each row the candidates with the highest bounds, the highest first; filled up with -1 and -inf.

    The cosine of a row to a candidate that is not listed is at most the last bound of the row.
    """

    neighbours: Int[np.ndarray, "rows listed"]
    bounds: Float64[np.ndarray, "rows listed"]


@dataclass
class SearchCounts:
    """How much was computed, for the log."""

    lookups: int = 0  # rows whose nearest row was searched for
    verified: int = 0  # cosines computed exactly, one by one
    misordered: int = 0  # lookups in which the candidate with the highest bound was not the most similar row

    def summary(self) -> str:
        """One line of the log."""
        return (
            f"pruning: {self.verified:,} cosines verified in {self.lookups:,} lookups; in {self.misordered:,} of them "
            "the order of the bounds alone would have given a less similar row"
        )


class Neighbours:
    """Nearest-neighbour queries among the rows of one cluster, which are in rank order.

    `rows` have length 1 and lie on the grid of cosines.py; `cascade` is bound_cascade.build_cascade of them; `block` is
    the number of rows whose bounds are computed at a time.
    """

    def __init__(
        self,
        rows: Float32[np.ndarray, "members hidden"],
        cascade: list[Bounds],
        block: int,
        shortlist_size: int,
        counts: SearchCounts,
    ) -> None:
        self.rows, self.cascade, self.block = rows, cascade, block
        self.shortlist_size, self.counts = shortlist_size, counts
        all_rows = np.arange(len(rows))
        self.highest = float(pair_cosines(rows, all_rows, all_rows).max(initial=0))  # no cosine of two rows is above

    def shortlist(
        self,
        level: int,
        rows: Int[np.ndarray, " rows"],
        candidates: Int[np.ndarray, " candidates"],
        earlier_only: bool,
    ) -> Shortlists:
        """The candidates of each row with the highest bounds at one level of the cascade; both arguments ascend.

        With `earlier_only`, only candidates that are ranked before the row are listed.
        """
        shape = (len(rows), self.shortlist_size)
        found = Shortlists(np.full(shape, -1), np.full(shape, -np.inf, dtype=np.float64))
        for start in range(0, len(rows), self.block):
            part = rows[start : start + self.block]
            here = candidates[: np.searchsorted(candidates, part[-1])] if earlier_only else candidates
            if len(here) == 0:
                continue
            table = self.cascade[level].upper_bounds(part, here, self.block)
            if earlier_only:
                _mask_from(table, np.searchsorted(here, part))
            values, places = torch.topk(table, min(self.shortlist_size, len(here)), dim=1)
            bounds = np.minimum(rounded(values.double().cpu().numpy() + self.cascade[level].slack), self.highest)
            width = bounds.shape[1]
            found.bounds[start : start + len(part), :width] = bounds
            found.neighbours[start : start + len(part), :width] = np.where(
                np.isfinite(bounds), here[places.cpu().numpy()], -1
            )
        return found

    def verify(
        self, rows: Int[np.ndarray, " rows"], lists: Shortlists, allowed: Bool[np.ndarray, " members"]
    ) -> tuple[Float64[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        """The highest exact cosine of each row to an allowed listed row, and that row; -inf and -1 if there is none.

        Of equally similar rows the first-ranked is returned.
        """
        usable = (lists.neighbours >= 0) & allowed[lists.neighbours]
        cosines = np.full(usable.shape, -np.inf)
        first = usable.argmax(axis=1)
        wanted = np.zeros_like(usable)
        wanted[np.arange(len(rows)), first] = usable.any(axis=1)
        self._fill(cosines, rows, lists, wanted)
        promising = cosines[np.arange(len(rows)), first]
        self._fill(cosines, rows, lists, usable & ~wanted & (lists.bounds >= promising[:, None]))
        best = cosines.max(axis=1, initial=-np.inf)
        ties = np.where((cosines == best[:, None]) & usable, lists.neighbours, len(self.rows))
        nearest = ties.min(axis=1, initial=len(self.rows))
        self.counts.lookups += len(rows)
        self.counts.misordered += int((promising < best).sum())
        return best, np.where(nearest < len(self.rows), nearest, -1)

    def _fill(
        self,
        cosines: Float64[np.ndarray, "rows listed"],
        rows: Int[np.ndarray, " rows"],
        lists: Shortlists,
        wanted: Bool[np.ndarray, "rows listed"],
    ) -> None:
        """Write the exact cosines of the wanted pairs into `cosines`."""
        row, place = np.nonzero(wanted)
        cosines[row, place] = pair_cosines(self.rows, rows[row], lists.neighbours[row, place])
        self.counts.verified += len(row)

    def most_similar(
        self, rows: Int[np.ndarray, " rows"], candidates: Int[np.ndarray, " candidates"], earlier_only: bool
    ) -> tuple[Int[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """For each row the most similar candidate and their cosine; of equals the first-ranked; both arguments ascend.

        With `earlier_only`, only candidates that are ranked before the row count.
        """
        found, cosines = np.full(len(rows), -1), np.full(len(rows), -np.inf)
        pending = np.arange(len(rows))
        all_rows = np.ones(len(self.rows), dtype=bool)
        for level in range(len(self.cascade) - 1):
            lists = self.shortlist(level, rows[pending], candidates, earlier_only)
            best, nearest = self.verify(rows[pending], lists, all_rows)
            found[pending], cosines[pending] = nearest, best
            pending = pending[best <= lists.bounds[:, -1]]  # a row that is not listed may be as similar
        for start in range(0, len(pending), self.block):
            part = pending[start : start + self.block]
            found[part], cosines[part] = self._most_similar_exact(rows[part], candidates, earlier_only)
        return found, cosines

    def _most_similar_exact(
        self, rows: Int[np.ndarray, " rows"], candidates: Int[np.ndarray, " candidates"], earlier_only: bool
    ) -> tuple[Int[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """As `most_similar`, from the exact level of the cascade alone."""
        table = self.cascade[-1].upper_bounds(rows, candidates, self.block)
        if earlier_only:
            _mask_from(table, np.searchsorted(candidates, rows))
        cosines = rounded(table.cpu().numpy())
        place = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(rows)), place]
        return np.where(np.isfinite(highest), candidates[place], -1), highest


def _mask_from(table: Float[Tensor, "rows columns"], firsts: Int[np.ndarray, " rows"]) -> None:
    """Write -inf into each row of the table from the column `firsts[row]` on; `firsts` ascend."""
    first = int(firsts[0])
    columns = torch.arange(first, table.shape[1], device=table.device)
    hidden = columns[None, :] >= torch.from_numpy(firsts).to(table.device)[:, None]
    table[:, first:].masked_fill_(hidden, -torch.inf)

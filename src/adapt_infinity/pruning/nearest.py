"""Who is nearest to whom in one cluster, exactly: shortlisted by a screen's bounds, then verified (screening.py).

Memory is the cluster's rows, a block of bounds (block · members) and a shortlist a row; never members².
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from adapt_infinity.pruning.bound_cascade import Screen
from adapt_infinity.pruning.cosines import pair_cosines, rounded


@dataclass
class Shortlists:
    """For each row the candidates with the highest bounds, the highest first; filled up with -1 and -inf.

    No candidate that is not listed has a cosine above the last bound of the row.
    """

    neighbours: Int[np.ndarray, "rows nearest"]
    bounds: Float64[np.ndarray, "rows nearest"]


@dataclass
class Tally:
    """How much was computed, for the log."""

    looked_up: int = 0  # rows whose nearest row was sought
    verified: int = 0  # cosines computed exactly, one by one
    misled: int = 0  # rows for which the first of the shortlist is less similar than another

    def told(self) -> str:
        """In a line."""
        return (
            f"pruning: {self.verified:,} cosines verified in {self.looked_up:,} look-ups; in {self.misled:,} of them "
            "the screen's order alone would have named a less similar row"
        )


class Neighbours:
    """Who is nearest to whom in one cluster, exactly: screened first, then verified. Rows are in rank order."""

    def __init__(
        self,
        rows: Float32[np.ndarray, "members hidden"],
        screens: list[Screen],
        block: int,
        nearest: int,
        tally: Tally,
    ) -> None:
        self.rows, self.screens, self.block, self.nearest, self.tally = rows, screens, block, nearest, tally
        everyone = np.arange(len(rows))
        self.ceiling = float(pair_cosines(rows, everyone, everyone).max(initial=0))  # no cosine of two rows is above

    def shortlist(
        self,
        level: int,
        rows: Int[np.ndarray, " rows"],
        candidates: Int[np.ndarray, " candidates"],
        before: bool,
    ) -> Shortlists:
        """By one screen's bounds; both ascending. With `before`, only candidates ranked before the row count."""
        screen = self.screens[level]
        found = Shortlists(
            np.full((len(rows), self.nearest), -1), np.full((len(rows), self.nearest), -np.inf, dtype=np.float64)
        )
        for start in range(0, len(rows), self.block):
            part = rows[start : start + self.block]
            here = candidates[: np.searchsorted(candidates, part[-1])] if before else candidates
            if len(here) == 0:
                continue
            table = screen.bounds(part, here, self.block)
            if before:
                _hide_from(table, np.searchsorted(here, part))
            values, places = torch.topk(table, min(self.nearest, len(here)), dim=1)
            bounds = np.minimum(rounded(values.double().cpu().numpy() + screen.slack), self.ceiling)
            width = bounds.shape[1]
            found.bounds[start : start + len(part), :width] = bounds
            found.neighbours[start : start + len(part), :width] = np.where(
                np.isfinite(bounds), here[places.cpu().numpy()], -1
            )
        return found

    def verify(
        self, rows: Int[np.ndarray, " rows"], lists: Shortlists, allowed: Bool[np.ndarray, " members"]
    ) -> tuple[Float64[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        """The highest exact cosine to an allowed listed row, and to which (of equals the first-ranked); -inf and -1."""
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
        witness = ties.min(axis=1, initial=len(self.rows))
        self.tally.looked_up += len(rows)
        self.tally.misled += int((promising < best).sum())
        return best, np.where(witness < len(self.rows), witness, -1)

    def _fill(
        self,
        cosines: Float64[np.ndarray, "rows nearest"],
        rows: Int[np.ndarray, " rows"],
        lists: Shortlists,
        wanted: Bool[np.ndarray, "rows nearest"],
    ) -> None:
        row, place = np.nonzero(wanted)
        cosines[row, place] = pair_cosines(self.rows, rows[row], lists.neighbours[row, place])
        self.tally.verified += len(row)

    def most_similar(
        self, rows: Int[np.ndarray, " rows"], candidates: Int[np.ndarray, " candidates"], before: bool
    ) -> tuple[Int[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """For each row the most similar candidate, of equals the first-ranked, and their cosine; both ascending."""
        twins, cosines = np.full(len(rows), -1), np.full(len(rows), -np.inf)
        pending = np.arange(len(rows))
        everyone = np.ones(len(self.rows), dtype=bool)
        for level in range(len(self.screens) - 1):
            lists = self.shortlist(level, rows[pending], candidates, before)
            best, witness = self.verify(rows[pending], lists, everyone)
            twins[pending], cosines[pending] = witness, best
            pending = pending[best <= lists.bounds[:, -1]]  # one that is not listed may be as similar
        for start in range(0, len(pending), self.block):
            part = pending[start : start + self.block]
            twins[part], cosines[part] = self._first_highest(rows[part], candidates, before)
        return twins, cosines

    def _first_highest(
        self, rows: Int[np.ndarray, " rows"], candidates: Int[np.ndarray, " candidates"], before: bool
    ) -> tuple[Int[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """As `most_similar`, from the exact screen alone."""
        table = self.screens[-1].bounds(rows, candidates, self.block)
        if before:
            _hide_from(table, np.searchsorted(candidates, rows))
        cosines = rounded(table.cpu().numpy())
        place = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(rows)), place]
        return np.where(np.isfinite(highest), candidates[place], -1), highest


def _hide_from(table: Float[Tensor, "rows columns"], firsts: Int[np.ndarray, " rows"]) -> None:
    """Write -inf over each row from a column on; `firsts` ascend, so what lies before the first of them is safe."""
    first = int(firsts[0])
    columns = torch.arange(first, table.shape[1], device=table.device)
    hidden = columns[None, :] >= torch.from_numpy(firsts).to(table.device)[:, None]
    table[:, first:].masked_fill_(hidden, -torch.inf)

"""Constraints on the subset that hold for every strategy: lists of samples, and minimum and maximum numbers.

    include    samples that are always trained on, whatever their score; they count towards the budget
    exclude    samples that are never trained on
    floors     {source: {charts: 100}, skill: {region: 20}}: at least so many samples, or all that there are
    caps       the same form: at most so many samples; included samples are taken even above a cap

Included samples are taken first, then the floors in their order, then the rest under the caps. Each step calls the
strategy's draw for the rows that it may take. Without constraints the draw is called once, for the whole budget.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool

from adapt_infinity.data.tables import require_columns
from adapt_infinity.parameters import NonNegativeInt, check
from adapt_infinity.pool.pool import Pool
from adapt_infinity.pool.references import resolve

log = logging.getLogger(__name__)
Counts = dict[Literal["source", "skill"], dict[str, NonNegativeInt]]
Mask = Bool[np.ndarray, " n"]
Limit = tuple[str, Mask, int]  # name, the rows that count, largest or smallest number
Draw = Callable[[Mask, Mask, int], Mask]
"""A strategy's draw: rows that may be taken, rows taken before, a number → this number of rows that may be taken."""


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """The part of params:subset that holds for every strategy."""

    SECTION: ClassVar[str] = "subset"

    include: list[int | str] = field(default_factory=list)  # sample ids, source/id, or @file: pool/references.py
    exclude: list[int | str] = field(default_factory=list)
    floors: Counts = field(default_factory=dict)
    caps: Counts = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)
        for tag, counts in self.floors.items():
            for name, count in counts.items():
                if count > self.caps.get(tag, {}).get(name, count):
                    raise ValueError(f"subset.floors.{tag}.{name} = {count} is above its cap")


def list_requests(pool: Pool, project: Path, params: Constraints) -> pd.DataFrame:
    """Look up the listed samples; one row per sample that is in the pool: sample_id, include (false: exclude).

    project: the folder that names of list files are relative to. `ValueError` for a name that is no sample, and for a
    sample that both lists name.
    """
    include, exclude = (
        resolve(pool, getattr(params, key), key=f"subset.{key}", project=project) for key in ("include", "exclude")
    )
    both = np.intersect1d(include, exclude)
    if len(both):
        raise ValueError(f"subset.include and subset.exclude both name sample {both[0]}")
    requests = pd.DataFrame(
        {
            "sample_id": np.concatenate([include, exclude]),
            "include": np.arange(len(include) + len(exclude)) < len(include),
        }
    )
    present = pool.present[requests["sample_id"].to_numpy()]
    gone = int((~present & requests["include"]).sum())
    if gone:
        log.warning("%d samples of subset.include have left the pool and are not trained on", gone)
    return requests[present].sort_values("sample_id", ignore_index=True)


def fill(
    pool_rows: pd.DataFrame, requests: pd.DataFrame, budget: int, params: Constraints, open_rows: Mask, draw: Draw
) -> Mask:
    """Select `budget` rows, or as many as the constraints and `open_rows` allow; returns the mask of selected rows.

    pool_rows: ordered by sample_id, with a column for each constrained attribute; requests: the table of
    `list_requests`. `ValueError` if the budget is too small for the included samples or the floors, and for a missing
    column.
    """
    require_columns(pool_rows, "pool_rows", ("sample_id", *params.floors, *params.caps))
    require_columns(requests, "requests", ("sample_id", "include"))
    ids = pool_rows["sample_id"].to_numpy()
    taken, excluded = (np.isin(ids, requests["sample_id"][requests["include"] == side]) for side in (True, False))
    eligible, caps = open_rows & ~excluded, list(_limits(pool_rows, params.caps))
    if taken.sum() > budget:
        raise ValueError(f"subset.include names {taken.sum()} samples of the pool, subset.budget is {budget}")
    for name, rows, floor in _limits(pool_rows, params.floors):
        wanted = min(floor, int((rows & (eligible | taken)).sum()))
        if wanted - (taken & rows).sum() > budget - taken.sum():
            raise ValueError(f"subset.budget {budget} is too small for subset.floors.{name} = {floor}")
        taken = _top_up(taken, rows, eligible, wanted, caps, draw)
    whole = _top_up(taken, np.ones(len(ids), dtype=bool), eligible, budget, caps, draw)
    if caps and whole.sum() < min(budget, int((eligible | taken).sum())):
        log.warning("subset.caps leave %d samples for a budget of %d", whole.sum(), budget)
    return whole


def _top_up(taken: Mask, rows: Mask, eligible: Mask, count: int, caps: list[Limit], draw: Draw) -> Mask:
    """`taken` with eligible ones of `rows` added until `count` of these are in, or as many as the caps allow."""
    while True:
        open_rows = rows & eligible & ~taken & ~_full(taken, caps)
        missing = min(count - int((taken & rows).sum()), int(open_rows.sum()))
        if missing <= 0:
            return taken
        taken = taken | _draw_under_caps(caps, open_rows, taken & rows, taken, missing, draw)


def _draw_under_caps(caps: list[Limit], open_rows: Mask, balance: Mask, taken: Mask, count: int, draw: Draw) -> Mask:
    """A draw that exceeds no cap. If it would, only the rows of this cap are drawn, as many as the cap allows.

    The strategy's draw thus decides which of too many rows are taken. The caller then draws the missing rows, and the
    cap is full by then. `balance` are the rows taken before that the draw takes into account, `taken` all of them.
    """
    drawn = draw(open_rows, balance, count)
    for index, (_, rows, cap) in enumerate(caps):
        room = max(0, cap - int((taken & rows).sum()))
        if (drawn & rows).sum() > room:
            others = caps[:index] + caps[index + 1 :]
            return _draw_under_caps(others, open_rows & rows, balance & rows, taken, room, draw)
    return drawn


def _limits(pool_rows: pd.DataFrame, counts: Counts) -> Iterator[Limit]:
    """The name of each limit, the rows that count for it, and its number."""
    for attribute, limits in counts.items():
        values = pool_rows[attribute].to_numpy(dtype=object)
        for name, count in limits.items():
            yield f"{attribute}.{name}", values == name, count


def _full(taken: Mask, caps: list[Limit]) -> Mask:
    """The rows that no longer may be taken because a cap is reached."""
    full = np.zeros(len(taken), dtype=bool)
    for _, rows, cap in caps:
        if (taken & rows).sum() >= cap:
            full |= rows
    return full

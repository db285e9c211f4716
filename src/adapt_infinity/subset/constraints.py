"""What a subset must and must not hold, whatever chooses it: lists, floors, caps.

    include    samples that are trained on whatever their score; they count in the budget
    exclude    samples that are not trained on
    floors     {source: {charts: 100}, skill: {region: 20}}: at least so many, or all that there are
    caps       the same form: at most so many. What is included is taken even above a cap

Included samples come first, then the floors as they are listed, then the rest under the caps; each of these steps asks
the strategy's own draw for the rows that are open to it. Without limits the draw is asked once, for the whole budget.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from adapt_infinity.pool.pool import Pool
from adapt_infinity.pool.references import resolve

log = logging.getLogger(__name__)
TAGS = ("source", "skill")
Counts = dict[str, dict[str, int]]
Mask = Bool[np.ndarray, " n"]
Cap = tuple[str, Mask, int]  # name, rows, count
Draw = Callable[[Mask, Mask, int], Mask]
"""open rows, rows taken already, how many more → that many of the open rows (or all)."""


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """The part of params:subset that binds every strategy."""

    include: list[int | str]  # sample ids, source/id, or @file (naming.py)
    exclude: list[int | str]
    floors: Counts
    caps: Counts

    def __post_init__(self) -> None:
        for key in ("floors", "caps"):
            for tag, counts in getattr(self, key).items():
                if tag not in TAGS:
                    raise ValueError(f"subset.{key} is by {' or '.join(TAGS)}, got {tag!r}")
                for name, count in counts.items():
                    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                        raise ValueError(f"subset.{key}.{tag}.{name} must be a whole number from 0, got {count!r}")
        for tag, counts in self.floors.items():
            for name, count in counts.items():
                if count > self.caps.get(tag, {}).get(name, count):
                    raise ValueError(f"subset.floors.{tag}.{name} = {count} is above its cap")


def list_requests(pool: Pool, project: Path, params: Constraints) -> pd.DataFrame:
    """The samples of both lists, by number: sample_id, include. Only those that are in the pool.

    `ValueError` for a name of no sample, and for a sample that is in both lists.
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
    there = pool.present[requests["sample_id"].to_numpy()]
    gone = int((~there & requests["include"]).sum())
    if gone:
        log.warning("%d samples of subset.include have left the pool, and are not trained on", gone)
    return requests[there].sort_values("sample_id", ignore_index=True)


def fill(
    pool_rows: pd.DataFrame, requests: pd.DataFrame, budget: int, params: Constraints, open_rows: Mask, draw: Draw
) -> Mask:
    """The rows that are selected: as many as the budget, or as many as the limits and `open_rows` leave.

    `pool_rows` by ascending sample_id. `ValueError` when the budget is too small for what must be in.
    """
    ids = pool_rows["sample_id"].to_numpy()
    taken, excluded = (_among(ids, requests[requests["include"] == wanted]) for wanted in (True, False))
    eligible, caps = open_rows & ~excluded, list(_tagged(pool_rows, params.caps))
    if taken.sum() > budget:
        raise ValueError(f"subset.include names {taken.sum()} samples of the pool, subset.budget is {budget}")
    for name, mine, floor in _tagged(pool_rows, params.floors):
        wanted = min(floor, int((mine & (eligible | taken)).sum()))
        if wanted - (taken & mine).sum() > budget - taken.sum():
            raise ValueError(f"subset.budget {budget} is too small for subset.floors.{name} = {floor}")
        taken = _top_up(taken, mine, eligible, wanted, caps, draw)
    whole = _top_up(taken, np.ones(len(ids), dtype=bool), eligible, budget, caps, draw)
    if caps and whole.sum() < min(budget, int((eligible | taken).sum())):
        log.warning("subset.caps leave %d samples for a budget of %d", whole.sum(), budget)
    return whole


def _top_up(taken: Mask, mine: Mask, eligible: Mask, count: int, caps: list[Cap], draw: Draw) -> Mask:
    """`taken`, and so many eligible ones of `mine` that `count` of these are in, or as many as the caps allow."""
    while True:
        open_rows = mine & eligible & ~taken & ~_full(taken, caps)
        missing = min(count - int((taken & mine).sum()), int(open_rows.sum()))
        if missing <= 0:
            return taken
        taken = taken | _under(caps, open_rows, taken & mine, taken, missing, draw)


def _under(caps: list[Cap], open_rows: Mask, taken: Mask, counted: Mask, count: int, draw: Draw) -> Mask:
    """A draw that exceeds no cap. If it would, instead what fills that cap, drawn from its rows alone.

    So the strategy's own draw decides which of too many rows are taken; the caller asks again for what is missing, and
    that tag is closed by then. `counted` are all rows taken, `taken` those that the draw is to balance with.
    """
    drawn = draw(open_rows, taken, count)
    for place, (_, mine, cap) in enumerate(caps):
        room = max(0, cap - int((counted & mine).sum()))
        if (drawn & mine).sum() > room:
            others = caps[:place] + caps[place + 1 :]
            return _under(others, open_rows & mine, taken & mine, counted, room, draw)
    return drawn


def _among(ids: Int[np.ndarray, " n"], listed: pd.DataFrame) -> Mask:
    return np.isin(ids, listed["sample_id"].to_numpy())


def _tagged(pool_rows: pd.DataFrame, counts: Counts) -> Iterator[Cap]:
    """Each limit's name, the rows that it is about, and its count."""
    for tag, of in counts.items():
        values = pool_rows[tag].to_numpy(dtype=object)
        for name, count in of.items():
            yield f"{tag}.{name}", values == name, count


def _full(taken: Mask, caps: list[Cap]) -> Mask:
    """The rows that a cap closes."""
    full = np.zeros(len(taken), dtype=bool)
    for _, mine, cap in caps:
        if (taken & mine).sum() >= cap:
            full |= mine
    return full

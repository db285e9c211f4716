"""Scores that compare a sample with its past, a reference model, validation samples or its neighbours.

One file each, found by name, with one function `score(context) -> [n]`: one number per sample, higher for samples that
are more important or harder. A comparison is computed if `selector_experts.experts` lists it, and then competes with
the scores that the probe measures (features/scores/), so a name may be in only one of the two folders.

A file that needs a reading which is not made for every round lists it in `NEEDS` (reference_reading.py makes them):

    "reference_scores"    losses of the pool under the adapter `selector_experts.reference`
    "targets"             mean gradients of the validation samples of each skill
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from adapt_infinity import registry
from adapt_infinity.selector_experts.context import ScoringContext

Score = Callable[[ScoringContext], Float[np.ndarray, " n"]]


def names() -> list[str]:
    """Names of all comparisons, sorted."""
    return registry.names(__name__)


def load(name: str) -> Score:
    """The function `score` of the comparison `name`; `ValueError` for an unknown name lists the known ones."""
    score: Score = registry.load(__name__, name, "score")
    return score


def needing(reading: str, experts: Iterable[str]) -> list[str]:
    """Those of the `experts` that are comparisons and list `reading` in `NEEDS`."""
    known = set(names())
    return [
        name for name in experts if name in known and reading in getattr(registry.module(__name__, name), "NEEDS", ())
    ]

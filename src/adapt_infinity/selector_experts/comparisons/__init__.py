"""Experts that compare: a sample with its own past, a reference model, validation samples, its neighbours.

One file each, with `score(evidence) -> one number a sample`, higher where the sample is judged to matter more or to be
harder. They are computed when `selector_experts.experts` names them, and compete with those that one reading measures
(`features/scores/`), so no name may be in both rooms.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from adapt_infinity import registry
from adapt_infinity.selector_experts.context import ScoringContext


def names() -> list[str]:
    """Every comparison there is."""
    return registry.names(__name__)


def load(name: str) -> Callable[[ScoringContext], Float[np.ndarray, " n"]]:
    """The function `name`; `ValueError` names the known ones."""
    score: Callable[[ScoringContext], Float[np.ndarray, " n"]] = registry.load(__name__, name, "score")
    return score

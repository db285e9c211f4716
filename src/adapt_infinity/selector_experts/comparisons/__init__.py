"""Experts that compare: a sample with its own past, a reference model, validation samples, its neighbours.

One file each, with `score(evidence) -> one number a sample`, higher where the sample is judged to matter more or to be
harder. They are computed when `selector_experts.experts` names them, and compete with those that one reading measures
(`experts/`), so no name may be in both rooms.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from adapt_infinity import rooms
from adapt_infinity.selection.evidence import Evidence


def names() -> list[str]:
    """Every comparison there is."""
    return rooms.names(__name__)


def load(name: str) -> Callable[[Evidence], Float[np.ndarray, " n"]]:
    """The function `name`; `ValueError` names the known ones."""
    score: Callable[[Evidence], Float[np.ndarray, " n"]] = rooms.load(__name__, name, "score")
    return score

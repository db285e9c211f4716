"""Spaces: what a sample's row is when samples are clustered; one file each, found by name.

Each has one function, `rows(...) -> [n, dim]` in half or single precision, in pool order; the array may be mapped from
a file. Its arguments are taken by name from: features, pool. A space that names no features needs no probe.
"""

from inspect import signature
from typing import Any

import numpy as np
from jaxtyping import Float

from adapt_infinity import registry


def names() -> list[str]:
    """Every space there is."""
    return registry.names(__name__)


def rows_in(name: str, **given: Any) -> Float[np.ndarray, "n dim"]:
    """The rows of the space `name`, made of those of the given inputs that it asks for."""
    make = registry.load(__name__, name, "rows")
    made: Float[np.ndarray, "n dim"] = make(**{argument: given[argument] for argument in signature(make).parameters})
    return made

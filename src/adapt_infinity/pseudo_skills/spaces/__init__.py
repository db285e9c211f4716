"""Spaces: the vectors that stand for the samples when samples are clustered. One file each, found by name.

Each file has one function, `rows(...) -> [n, dim]`, in half or single precision and in pool order; the array may be
mapped from a file. The function is given those of `features` and `pool` that its signature names. A space that does not
name `features` works without a probe.
"""

from inspect import signature
from typing import Any

import numpy as np
from jaxtyping import Float

from adapt_infinity import registry


def names() -> list[str]:
    """Names of all spaces, sorted."""
    return registry.names(__name__)


def rows_in(name: str, **inputs: Any) -> Float[np.ndarray, "n dim"]:
    """The rows of the space `name`, in pool order, made from those `inputs` that the space names.

    `ValueError` for an unknown space lists the known ones, and for an input that is missing names it.
    """
    make = registry.load(__name__, name, "rows")
    missing = [argument for argument in signature(make).parameters if argument not in inputs]
    if missing:
        raise ValueError(f"the space {name!r} needs {', '.join(missing)}; given are: {', '.join(inputs) or 'none'}")
    rows: Float[np.ndarray, "n dim"] = make(**{argument: inputs[argument] for argument in signature(make).parameters})
    return rows

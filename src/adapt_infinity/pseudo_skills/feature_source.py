"""What clustering and selection ask of the probe's features."""

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int


@runtime_checkable
class Features(Protocol):
    """What the probe measured, a row for each sample in pool order; arrays have rows of length 1."""

    @property
    def sample_ids(self) -> Int[np.ndarray, " n"]:
        """Ascending."""
        ...

    @property
    def gradients(self) -> Float[np.ndarray, "n dim"]:
        """Sketched gradient features, half or single precision."""
        ...

    @property
    def embeddings(self) -> Float[np.ndarray, "n hidden"]:
        """Mean hidden states."""
        ...

    @property
    def scores(self) -> pd.DataFrame:
        """The scores table."""
        ...

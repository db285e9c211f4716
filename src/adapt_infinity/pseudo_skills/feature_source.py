"""The probe's features as the later stages read them: an interface, so that tests and callers can bring their own."""

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float, Int


@runtime_checkable
class Features(Protocol):
    """What the probe measured: arrays and a table with one row per sample, all in pool order.

    Rows of the two arrays have length 1 and half or single precision. Both may be mapped from files.
    """

    @property
    def sample_ids(self) -> Int[np.ndarray, " n"]:
        """Ids of the samples, ascending."""
        ...

    @property
    def gradients(self) -> Float[np.ndarray, "n dim"]:
        """Gradients, sketched to `dim` numbers."""
        ...

    @property
    def embeddings(self) -> Float[np.ndarray, "n hidden"]:
        """Mean hidden states of one layer."""
        ...

    @property
    def scores(self) -> pd.DataFrame:
        """The table of scores: sample_id and one column per score."""
        ...

"""Parameters and tables that the tests of this room share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.subset.selecting import SubsetParams

NO_REQUESTS = pd.DataFrame({"sample_id": np.zeros(0, np.int64), "include": np.zeros(0, dtype=bool)})
USUAL = {
    "token_budget": 0,
    "shares": "equal",
    "sampler": "ccs",
    "strata": 50,
    "cut": 0.0,
    "cut_tails": False,
    "view": "gradients",
    "include": [],
    "exclude": [],
    "floors": {},
    "caps": {},
    "seed": 0,
}


def subset_params(budget: int, **changed: Any) -> SubsetParams:
    """The usual parameters with some of them changed."""
    return SubsetParams(budget=budget, **{**USUAL, **changed})


@dataclass(frozen=True)
class Read:
    """What is read of features."""

    sample_ids: np.ndarray
    gradients: np.ndarray
    embeddings: np.ndarray
    scores: pd.DataFrame


def requests(include: list[int], exclude: list[int]) -> pd.DataFrame:
    """Both lists, as the pool resolved them."""
    ids = np.array([*include, *exclude], np.int64)
    return pd.DataFrame({"sample_id": ids, "include": np.arange(len(ids)) < len(include)})

"""Default parameters and small tables that tests of several stages share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.subset.params import SubsetParams

NO_REQUESTS = pd.DataFrame({"sample_id": np.zeros(0, np.int64), "include": np.zeros(0, dtype=bool)})
DEFAULTS = {
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
    """The default parameters with `changed` ones in place of them."""
    return SubsetParams(budget=budget, **{**DEFAULTS, **changed})


@dataclass(frozen=True)
class StubFeatures:
    """Features that a test makes up, with what the stages read of them."""

    sample_ids: np.ndarray
    gradients: np.ndarray
    embeddings: np.ndarray
    scores: pd.DataFrame


def requests(include: list[int], exclude: list[int]) -> pd.DataFrame:
    """The table of `list_requests` for these sample ids."""
    ids = np.array([*include, *exclude], np.int64)
    return pd.DataFrame({"sample_id": ids, "include": np.arange(len(ids)) < len(include)})

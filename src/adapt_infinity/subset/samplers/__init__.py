"""Samplers: which samples of one cluster are taken. One file each, found by name.

Each file has one function, `sample(members, budget, rng, params) -> (selected, stratum)`. Exactly min(budget, n)
samples are selected; `stratum` is the number of each sample's stratum, −1 for none. The samples' vectors are loaded
only if a sampler calls `members.vectors()`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity import registry

Selected = tuple[Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]


@dataclass(frozen=True)
class Members:
    """The samples of one cluster that a sampler can take, by ascending sample_id."""

    sample_ids: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]  # by the cluster's expert: finite, higher is harder
    vectors: Callable[[], Float[np.ndarray, "n dim"]] = field(repr=False)  # loads the samples' vectors, of length 1


@runtime_checkable
class SamplerParams(Protocol):
    """The parameters of `subset` that samplers read."""

    @property
    def strata(self) -> int:
        """Number of strata of equal width (ccs)."""
        ...

    @property
    def cut(self) -> float:
        """Share of the hardest samples of a cluster that are taken last (ccs)."""
        ...

    @property
    def cut_tails(self) -> bool:
        """Whether 5 % of the samples at either end are taken last (ccs)."""
        ...


Sample = Callable[[Members, int, np.random.Generator, SamplerParams], Selected]


def names() -> list[str]:
    """Names of all samplers, sorted."""
    return registry.names(__name__)


def load(name: str) -> Sample:
    """The function `sample` of the sampler `name`; `ValueError` for an unknown name lists the known ones."""
    sample: Sample = registry.load(__name__, name, "sample")
    return sample

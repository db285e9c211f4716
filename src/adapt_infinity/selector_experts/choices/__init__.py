"""Choices of a cluster's expert. One file each, with

    prefer(candidates) -> [clusters, experts]      the experts' columns, the preferred one first

`entropy` is the paper's. What is not preferred stays in the table, so that the choice can be questioned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity import registry


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What is known of every expert in every cluster."""

    clusters: Int[np.ndarray, " clusters"]  # their numbers
    experts: tuple[str, ...]
    entropies: Float[np.ndarray, "clusters experts"]  # nats; METHOD section 4
    constant: Bool[np.ndarray, "clusters experts"]  # all rows of the cluster have the same score
    gains: Float[np.ndarray, "clusters experts"]  # nats; NaN: no evidence
    seeds: tuple[int, ...]

    def by_entropy(self) -> Int[np.ndarray, "clusters experts"]:
        """Highest entropy first, constant scores last; of equals the first listed."""
        listed = np.broadcast_to(np.arange(len(self.experts)), self.entropies.shape)
        return np.lexsort((listed, -np.round(self.entropies, 9), self.constant), axis=1)


def names() -> list[str]:
    """Every choice there is."""
    return registry.names(__name__)


def load(name: str) -> Callable[[Candidates], Int[np.ndarray, "clusters experts"]]:
    """The function `name`; `ValueError` names the known ones."""
    prefer: Callable[[Candidates], Int[np.ndarray, "clusters experts"]] = registry.load(__name__, name, "prefer")
    return prefer

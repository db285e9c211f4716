"""Rules that choose the expert of each cluster. One file each, found by name.

Each file has one function, `prefer(candidates) -> [clusters, experts]`: for each cluster the numbers of the experts
(positions in `candidates.experts`), the preferred one first. A file may name in `ADDS` an expert that is a candidate
even where `selector_experts.experts` does not list it. `entropy` is the rule of the Adapt-∞ paper.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from adapt_infinity import registry

Prefer = Callable[["Candidates"], Int[np.ndarray, "clusters experts"]]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What is known about each expert in each cluster."""

    clusters: Int[np.ndarray, " clusters"]  # their numbers
    experts: tuple[str, ...]
    entropies: Float[np.ndarray, "clusters experts"]  # nats; docs/method.md, section 4
    constant: Bool[np.ndarray, "clusters experts"]  # whether all samples of the cluster have the same score
    gains: Float[np.ndarray, "clusters experts"]  # nats per answer token; NaN: too few samples
    seeds: tuple[int, ...]

    def by_entropy(self) -> Int[np.ndarray, "clusters experts"]:
        """Experts of each cluster by falling entropy, constant scores last; equal ones in the listed order."""
        listed = np.broadcast_to(np.arange(len(self.experts)), self.entropies.shape)
        return np.lexsort((listed, -np.round(self.entropies, 9), self.constant), axis=1)


def names() -> list[str]:
    """Names of all rules, sorted."""
    return registry.names(__name__)


def load(name: str) -> Prefer:
    """The function `prefer` of the rule `name`; `ValueError` for an unknown name lists the known ones."""
    prefer: Prefer = registry.load(__name__, name, "prefer")
    return prefer


def added_expert(name: str) -> str:
    """The expert that the rule `name` adds to the listed ones; "" if there is none."""
    return getattr(registry.module(__name__, name), "ADDS", "")

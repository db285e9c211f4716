"""Cells of a study: a data strategy, a training method and a seed each, with a stream of its own.

A strategy is written as it is named, `score:el2n` with its argument, `adapt_inf+deep` with the parameters of the
variant `deep`, and `random@1.5` with a budget half as large again: what comparing at equal total cost needs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

ZERO_SHOT = "zero_shot"  # no training: every round is row 0 of R


@dataclass(frozen=True)
class Cell:
    """One stream of a study."""

    strategy: str  # as the user wrote it
    method: str
    seed: int

    @cached_property
    def data_strategy(self) -> str:
        """Its name alone: a file in strategies/, perhaps with an argument behind a colon."""
        return re.split(r"[+@]", self.strategy)[0]

    @cached_property
    def variant(self) -> str:
        """The name of further parameters, or ""."""
        return self.strategy.split("@")[0].partition("+")[2]

    @cached_property
    def budget(self) -> float:
        """By which the round's budget is multiplied."""
        return float(self.strategy.split("@")[1]) if "@" in self.strategy else 1.0

    def stream(self, study: str) -> str:
        """A folder's name; no two cells share one."""
        words = [study, self.strategy, self.method, f"seed{self.seed}"]
        return "-".join(re.sub(r"[^\w.]", "_", word) for word in words)


def cells(strategies: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Every cell once, seed by seed: an interrupted study has whole seeds. `ValueError` for what cannot be."""
    for what, listed in (("strategies", strategies), ("methods", methods), ("seeds", seeds)):
        if not listed:
            raise ValueError(f"a study needs {what}")
        twice = sorted({str(name) for name in listed if list(listed).count(name) > 1})
        if twice:
            raise ValueError(f"{what} lists {', '.join(twice)} twice")
    for strategy in strategies:
        if not re.fullmatch(r"[a-z_0-9]+(:[a-z_0-9]+)?(\+[a-z_0-9]+)?(@\d+(\.\d+)?)?", strategy):
            raise ValueError(f"a strategy is written name, name:argument, name+variant, name@budget, got {strategy!r}")
        if "@" in strategy and float(strategy.split("@")[1]) <= 0:
            raise ValueError(f"the budget of {strategy!r} must be greater than 0")
    return [Cell(strategy, method, seed) for seed in seeds for strategy in strategies for method in methods]


def genesis_stream(study: str, seed: int) -> str:
    """The stream of which only round 0 is made, for all cells of a seed."""
    return f"{study}-genesis-seed{seed}"

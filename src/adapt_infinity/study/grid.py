"""The cells of a study: each is one data strategy with one training method and one seed, and a stream of its own.

A strategy is written as its name (`random`), with an argument (`score:el2n`), with the parameters of a variant
(`adapt_inf+deep`), or with a factor for the budget (`random@1.5`), which allows comparisons at equal total cost.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

ZERO_SHOT = "zero_shot"  # no training: the scores of every round are those of round 0


@dataclass(frozen=True)
class Cell:
    """One stream of a study."""

    strategy: str  # as the user wrote it
    method: str
    seed: int

    @cached_property
    def data_strategy(self) -> str:
        """The strategy without variant and budget: a file in strategies/, with its argument if there is one."""
        return re.split(r"[+@]", self.strategy)[0]

    @cached_property
    def variant(self) -> str:
        """The name of the variant, or ""."""
        return self.strategy.split("@")[0].partition("+")[2]

    @cached_property
    def budget(self) -> float:
        """The factor by which the round's budget is multiplied."""
        return float(self.strategy.split("@")[1]) if "@" in self.strategy else 1.0

    def stream(self, study: str) -> str:
        """The name of the cell's stream, different for each cell."""
        parts = [study, self.strategy, self.method, f"seed{self.seed}"]
        return "-".join(re.sub(r"[^\w.]", "_", part) for part in parts)


def cells(strategies: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """All cells, one seed after another, so that a stopped study has complete seeds.

    ValueError for an empty list, a repeated or malformed name, or a budget of 0.
    """
    for kind, listed in (("strategies", strategies), ("methods", methods), ("seeds", seeds)):
        if not listed:
            raise ValueError(f"a study needs {kind}; give at least one")
        twice = sorted({str(name) for name in listed if list(listed).count(name) > 1})
        if twice:
            raise ValueError(f"{kind} lists {', '.join(twice)} twice")
    for strategy in strategies:
        if not re.fullmatch(r"[a-z_0-9]+(:[a-z_0-9]+)?(\+[a-z_0-9]+)?(@\d+(\.\d+)?)?", strategy):
            raise ValueError(f"a strategy must be name, name:argument, name+variant or name@budget, got {strategy!r}")
        if "@" in strategy and float(strategy.split("@")[1]) <= 0:
            raise ValueError(f"the budget of {strategy!r} must be greater than 0")
    return [Cell(strategy, method, seed) for seed in seeds for strategy in strategies for method in methods]


def genesis_stream(study: str, seed: int) -> str:
    """The name of the stream with round 0 of a seed, which all cells of the seed use."""
    return f"{study}-genesis-seed{seed}"

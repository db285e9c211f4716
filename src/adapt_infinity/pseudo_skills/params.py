"""Parameters of the stage: how many clusters, in which space, and how k-means computes them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adapt_infinity.pseudo_skills import backends, spaces

AUTO = "auto"
LEAST = {
    "iterations": 1,
    "restarts": 1,
    "batch": 0,
    "sweep_rows": 16,
    "threads": 0,
    "block": 1,
    "label_rows": 1,
    "seed": 0,
}


@dataclass(frozen=True, kw_only=True)
class PseudoSkillParams:
    """params:pseudo_skills; conf/base/parameters_pseudo_skills.yml explains each key."""

    k: int | str  # number of clusters, or "auto"; fewer distinct rows give fewer clusters
    candidates: Sequence[int]
    sweep_rows: int
    space: str | Sequence[str]  # files in pseudo_skills/spaces
    iterations: int
    tolerance: float
    restarts: int
    batch: int
    warm_start: bool
    backend: str  # a file in pseudo_skills/backends, or "auto"
    device: str
    threads: int
    block: int
    label_rows: int
    seed: int

    def __post_init__(self) -> None:
        for key, least in LEAST.items():
            if getattr(self, key) < least:
                raise ValueError(f"pseudo_skills.{key} must be at least {least}, got {getattr(self, key)}")
        if self.k != AUTO and not (isinstance(self.k, int) and self.k >= 1):
            raise ValueError(f"pseudo_skills.k must be at least 1, or auto, got {self.k!r}")
        if any(k < 2 for k in self.candidates) or list(self.candidates) != sorted(set(self.candidates)):
            raise ValueError(f"pseudo_skills.candidates must be rising numbers from 2, got {list(self.candidates)}")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"pseudo_skills.tolerance must be at least 0 and below 1, got {self.tolerance}")
        if self.backend not in (AUTO, *backends.names()):
            known = ", ".join((AUTO, *backends.names()))
            raise ValueError(f"pseudo_skills.backend must be one of {known}, got {self.backend!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"pseudo_skills.device must be auto, cpu, cuda or cuda:<n>, got {self.device!r}")
        if not self.views or len(set(self.views)) < len(self.views):
            raise ValueError(f"pseudo_skills.space must name one or several different spaces, got {self.space!r}")
        for view in self.views:
            if view not in spaces.names():
                raise ValueError(f"pseudo_skills.space must be among {', '.join(spaces.names())}, got {view!r}")

    @property
    def views(self) -> tuple[str, ...]:
        """The spaces whose rows are joined, also where `space` names only one."""
        return (self.space,) if isinstance(self.space, str) else tuple(self.space)

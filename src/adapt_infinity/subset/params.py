"""Parameters of the stage: the budget, and how it is divided and filled."""

from dataclasses import dataclass

from adapt_infinity.subset import samplers, shares
from adapt_infinity.subset.constraints import Constraints

VIEWS = ("gradients", "embeddings")


@dataclass(frozen=True, kw_only=True)
class SubsetParams(Constraints):
    """params:subset; conf/base/parameters_subset.yml explains each key."""

    budget: int  # samples per round
    token_budget: int  # tokens per round, as the probe counted them; 0 = any number
    shares: str  # of the budget over clusters: a file in subset/shares
    sampler: str  # inside a cluster: a file in subset/samplers
    strata: int  # of equal width (ccs)
    cut: float  # share of each cluster's hardest rows that comes back last (ccs)
    cut_tails: bool  # the same for 5 % at either end (ccs)
    view: str  # rows that k_center and facility_location compare: gradients or embeddings
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget < 1:
            raise ValueError(f"subset.budget must be at least 1, got {self.budget}")
        if self.token_budget < 0:
            raise ValueError(f"subset.token_budget must not be negative, got {self.token_budget}")
        for key, known in (("shares", shares.names()), ("sampler", samplers.names()), ("view", VIEWS)):
            if getattr(self, key) not in known:
                raise ValueError(f"subset.{key} must be one of {', '.join(known)}, got {getattr(self, key)!r}")
        if self.strata < 1:
            raise ValueError(f"subset.strata must be at least 1, got {self.strata}")
        if not 0 <= self.cut < 1:
            raise ValueError(f"subset.cut must be at least 0 and below 1, got {self.cut}")
        if self.seed < 0:
            raise ValueError(f"subset.seed must be at least 0, got {self.seed}")

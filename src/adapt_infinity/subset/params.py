"""Parameters of the stage: the budget, and how it is divided and filled."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from adapt_infinity.parameters import NonNegativeInt, OneOf, PositiveInt, Seed
from adapt_infinity.subset import samplers, shares
from adapt_infinity.subset.constraints import Constraints

ShareRule = Annotated[str, OneOf(shares.names)]
Sampler = Annotated[str, OneOf(samplers.names)]


@dataclass(frozen=True, kw_only=True)
class SubsetParams(Constraints):
    """params:subset; conf/base/parameters_subset.yml explains each key."""

    budget: PositiveInt = 800  # samples per round
    token_budget: NonNegativeInt = 0  # tokens per round, as the probe counted them; 0 = any number
    shares: ShareRule = "equal"  # of the budget over clusters: a file in subset/shares
    sampler: Sampler = "ccs"  # inside a cluster: a file in subset/samplers
    strata: PositiveInt = 50  # of equal width (ccs)
    cut: Annotated[float, Ge(0), Lt(1)] = 0.0  # share of each cluster's hardest rows that comes back last (ccs)
    cut_tails: bool = False  # the same for 5 % at either end (ccs)
    view: Literal["gradients", "embeddings"] = "gradients"  # rows that k_center and facility_location compare
    seed: Seed = 0

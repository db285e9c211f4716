"""Parameters of the stage: how many clusters, in which space, and how k-means computes them."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Lt

from adapt_infinity.parameters import Device, Distinct, NonNegativeInt, NotEmpty, OneOf, PositiveInt, Seed, check
from adapt_infinity.pseudo_skills import backends, spaces

AUTO = "auto"
Space = Annotated[str, OneOf(spaces.names)]
Backend = Annotated[str, OneOf(lambda: [AUTO, *backends.names()])]


@dataclass(frozen=True, kw_only=True)
class PseudoSkillParams:
    """params:pseudo_skills; conf/base/parameters_pseudo_skills.yml explains each key."""

    SECTION: ClassVar[str] = "pseudo_skills"

    k: PositiveInt | Literal["auto"] = 24  # number of clusters; fewer distinct rows give fewer clusters
    # what auto compares; [] = 4, 6, 8, 11 and so on, each the former times the square root of 2
    candidates: list[Annotated[int, Ge(2)]] = field(default_factory=list)
    sweep_rows: Annotated[int, Ge(16)] = 8192  # rows of the sample that auto sweeps over
    # files in pseudo_skills/spaces; the rows of several are joined
    space: Space | Annotated[list[Space], NotEmpty, Distinct] = "gradients"
    iterations: PositiveInt = 20  # of Lloyd's algorithm, at most
    tolerance: Annotated[float, Ge(0), Lt(1)] = 0.0001  # stop when the similarity gains less than this share of itself
    restarts: PositiveInt = 2  # initialisations that are compared on a sample
    batch: NonNegativeInt = 0  # rows of a mini-batch step; 0 = Lloyd's algorithm over all rows
    warm_start: bool = False  # whether to start from what is left of the previous round's clusters
    backend: Backend = "auto"  # a file in pseudo_skills/backends: who finds the nearest centroid
    device: Device = "auto"
    threads: NonNegativeInt = 0  # on the CPU; 0 = as many as torch has
    block: PositiveInt = 16384  # rows mapped from a file at a time
    label_rows: PositiveInt = 64  # samples of a cluster whose words are read for its label
    seed: Seed = 0

    def __post_init__(self) -> None:
        check(self)
        if list(self.candidates) != sorted(set(self.candidates)):
            raise ValueError(f"pseudo_skills.candidates must be rising numbers, got {list(self.candidates)}")

    @property
    def views(self) -> tuple[str, ...]:
        """The spaces whose rows are joined, also where `space` names only one."""
        return (self.space,) if isinstance(self.space, str) else tuple(self.space)

"""Parameters of training (`params:training`) and of the warm-up at genesis (`params:warm_up`)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from adapt_infinity import executors
from adapt_infinity.parameters import (
    NonNegativeFloat,
    NonNegativeInt,
    OneOf,
    PositiveFloat,
    PositiveInt,
    RegularExpression,
    Seed,
    check,
)
from adapt_infinity.training import methods
from adapt_infinity.training.adapter_policy import CONTINUE, POLICIES


@dataclass(frozen=True, kw_only=True)
class TrainingParams:
    """params:training."""

    SECTION: ClassVar[str] = "training"

    method: Annotated[str, OneOf(methods.names)] = "finetune"  # a file in training/methods
    adapter_policy: Annotated[str, OneOf(POLICIES)] = CONTINUE
    learning_rate: PositiveFloat = 0.003
    projector: RegularExpression = "multi_modal_projector"  # of weights with the projector's learning rate
    projector_learning_rate: PositiveFloat = 0.003
    epochs: PositiveInt = 3
    batch_size: PositiveInt = 32  # samples in an optimiser step
    token_budget: PositiveInt = 8192  # tokens in a forward pass, padding included
    warm_up: Annotated[float, Ge(0), Lt(1)] = 0.05  # share of the steps in which the learning rate rises
    weight_decay: NonNegativeFloat = 0.0
    max_norm: PositiveFloat = 1.0  # gradients are clipped to this norm
    gradient_checkpointing: bool = False  # compute activations again instead of storing them
    hold_out: Annotated[float, Ge(0), Lt(1)] = 0.0  # share of the subset held out for early stopping; 0 = none
    evaluate_every: NonNegativeInt = 0  # steps between evaluations on held-out samples; 0 = once per epoch
    patience: PositiveInt = 3  # evaluations without a better loss before training stops; the best weights are kept
    checkpoint_every: NonNegativeInt = 100  # steps between checkpoints, from which a killed training resumes; 0 = none
    workers: NonNegativeInt = 1  # processes that train together; 0 = one per GPU
    executor: Annotated[str, OneOf(executors.names)] = "local"  # a file in executors: where the processes are
    cache_mb: NonNegativeInt = 512  # memory, in MB, for tokens and pixels that are used again in later epochs
    seed: Seed = 0

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class WarmUpParams:
    """params:warm_up. Genesis trains the new LoRA a little, because with B = 0 every gradient of A is exactly 0."""

    SECTION: ClassVar[str] = "warm_up"

    samples: PositiveInt = 64  # of the first arrival
    epochs: PositiveInt = 1

    def __post_init__(self) -> None:
        check(self)

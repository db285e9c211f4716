"""What a user can set of training: `params:training` and `params:warm_up`."""

from dataclasses import dataclass

from adapt_infinity import executors
from adapt_infinity.training import adapter_policy


@dataclass(frozen=True, kw_only=True)
class TrainingParams:
    """params:training."""

    method: str  # a file in training/methods
    adapter_policy: str  # continue, merge_then_new
    learning_rate: float
    projector: str  # regular expression: modules that learn at the projector's rate
    projector_learning_rate: float
    epochs: int
    batch_size: int  # samples in an optimiser step
    token_budget: int  # tokens in a forward pass, padding included
    warm_up: float  # share of the steps in which the rate rises
    weight_decay: float
    max_norm: float  # gradients are clipped to this length
    gradient_checkpointing: bool  # compute activations twice rather than keep them
    hold_out: float  # share of the chosen samples that are kept back, to stop early by; 0 = none
    evaluate_every: int  # steps between looks at the samples kept back; 0 = once an epoch
    patience: int  # looks without a better loss before training stops; the best weights are kept
    checkpoint_every: int  # steps between checkpoints, from which a killed training goes on; 0 = none
    workers: int  # processes that train together; 0 = one a GPU
    executor: str  # a file in executors: where they are
    cache_mb: int  # memory for tokens and pixels that are kept from one epoch to the next
    seed: int

    def __post_init__(self) -> None:
        for name in ("learning_rate", "projector_learning_rate", "max_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"training.{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("epochs", "batch_size", "token_budget", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("evaluate_every", "checkpoint_every", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} must be at least 0, got {getattr(self, name)}")
        for name in ("warm_up", "hold_out"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name} must lie in 0..1, got {getattr(self, name)}")
        executors.check("training.executor", self.executor)
        if self.adapter_policy not in adapter_policy.POLICIES:
            raise ValueError(
                f"training.adapter_policy must be {' or '.join(adapter_policy.POLICIES)}, got {self.adapter_policy!r}"
            )


@dataclass(frozen=True, kw_only=True)
class WarmUpParams:
    """params:warm_up. A fresh LoRA has B = 0, and then every gradient of A is exactly 0: genesis trains it a little."""

    samples: int
    epochs: int

    def __post_init__(self) -> None:
        for name in ("samples", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"warm_up.{name} must be at least 1, got {getattr(self, name)}")

"""Score functions: what one forward pass (and one gradient norm) says of a sample; one file each, found by name.

Each has one function, `score(outputs) -> one number a sample`. METHOD section 2 lists the definitions. The scores
compete to be the selector expert of a cluster; which ones take part is `selector_experts.experts`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapt_infinity import rooms

IGNORED = -100


@dataclass(frozen=True)
class Outputs:
    """What the model said of a batch, at answer positions only."""

    logits: Float[Tensor, "batch answers words"]
    labels: Int[Tensor, "batch answers"]  # IGNORED where a sample has fewer answer tokens than the longest
    gradient_norm: Float[Tensor, " batch"]  # of the sample's own mean answer loss
    nll_without_image: Float[Tensor, " batch"]  # equals the nll for a sample that has no picture


def names() -> list[str]:
    """Every score there is."""
    return rooms.names(__name__)


def load(name: str) -> Callable[[Outputs], Float[Tensor, " batch"]]:
    """The score function `name`; `ValueError` names the known ones."""
    score: Callable[[Outputs], Float[Tensor, " batch"]] = rooms.load(__name__, name, "score")
    return score


def answer_nll(
    logits: Float[Tensor, "batch answers words"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean over each sample's answer tokens of −log p, in nats."""
    words = labels.where(labels != IGNORED, 0).unsqueeze(-1)
    log_p = torch.log_softmax(logits, dim=-1).gather(-1, words).squeeze(-1)
    return mean_over_answers(-log_p, labels)


def mean_over_answers(
    values: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean of `values` where the label is an answer token."""
    answer = labels != IGNORED
    return (values * answer).sum(dim=1) / answer.sum(dim=1)

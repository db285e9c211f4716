"""Score functions: what one forward pass (and one gradient norm) says of a sample; one file each, found by name.

Each has one function, `score(outputs) -> one number a sample`, and may say in `NEEDS` which fields of `Outputs` it
cannot do without. METHOD section 2 lists the definitions. The scores compete to be the selector expert of a cluster;
which ones take part is `selector_experts.experts`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapt_infinity import rooms

IGNORED = -100


@dataclass(frozen=True)
class Outputs:
    """What the model said of a batch, at answer positions only.

    The softmax over the vocabulary is the dearest part of every score: it is taken once, and shared.
    """

    logits: Float[Tensor, "batch answers words"]
    labels: Int[Tensor, "batch answers"]  # IGNORED where a sample has fewer answer tokens than the longest
    gradient_norm: Float[Tensor, " batch"] | None  # of the sample's own mean answer loss; None: no gradient was taken
    nll_without_image: Float[Tensor, " batch"]  # equals the nll for a sample that has no picture
    hidden_square: Float[Tensor, "batch answers"] | None = None  # ‖h‖² of what goes into the head

    @cached_property
    def log_p(self) -> Float[Tensor, "batch answers words"]:
        """Logarithm of each word's probability."""
        return torch.log_softmax(self.logits, dim=-1)

    @cached_property
    def p(self) -> Float[Tensor, "batch answers words"]:
        """Each word's probability."""
        return self.log_p.exp()

    @cached_property
    def error_length(self) -> Float[Tensor, "batch answers"]:
        """‖softmax − one-hot‖ of each answer token."""
        word = self.labels.where(self.labels != IGNORED, 0).unsqueeze(-1)
        return self.p.scatter_add(-1, word, -torch.ones_like(word, dtype=self.p.dtype)).norm(dim=-1)

    @cached_property
    def nll(self) -> Float[Tensor, " batch"]:
        """Mean over each sample's answer tokens of −log p, in nats."""
        return _nll(self.log_p, self.labels)

    def completed(
        self, gradient_norm: Float[Tensor, " batch"] | None, nll_without_image: Float[Tensor, " batch"]
    ) -> "Outputs":
        """The same outputs, with what was computed of them, and with what only a backward pass could tell."""
        whole = copy.copy(self)
        whole.__dict__.update(gradient_norm=gradient_norm, nll_without_image=nll_without_image)
        return whole


def names() -> list[str]:
    """Every score there is."""
    return rooms.names(__name__)


def load(name: str) -> Callable[[Outputs], Float[Tensor, " batch"]]:
    """The score function `name`; `ValueError` names the known ones."""
    score: Callable[[Outputs], Float[Tensor, " batch"]] = rooms.load(__name__, name, "score")
    return score


def needs(name: str) -> tuple[str, ...]:
    """The fields of `Outputs` that the score `name` cannot do without, and that may be missing."""
    return tuple(getattr(rooms.module(__name__, name), "NEEDS", ()))


def possible(outputs: Outputs) -> list[str]:
    """The scores whose declared needs are met: without a gradient there is no gradient norm to give."""
    return [name for name in names() if all(getattr(outputs, need) is not None for need in needs(name))]


def answer_nll(
    logits: Float[Tensor, "batch answers words"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean over each sample's answer tokens of −log p, in nats."""
    return _nll(torch.log_softmax(logits, dim=-1), labels)


def mean_over_answers(
    values: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean of `values` where the label is an answer token."""
    answer = labels != IGNORED
    return (values * answer).sum(dim=1) / answer.sum(dim=1)


def _nll(log_p: Float[Tensor, "batch answers words"], labels: Int[Tensor, "batch answers"]) -> Float[Tensor, " batch"]:
    words = labels.where(labels != IGNORED, 0).unsqueeze(-1)
    return mean_over_answers(-log_p.gather(-1, words).squeeze(-1), labels)

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

    The softmax over the vocabulary is the dearest part of every score: it is taken once, and shared. Where the model is
    all but certain of the answer, 1 − p has lost its digits in fp32; `doubt` is the sum of all other words instead.
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
    def words(self) -> Int[Tensor, "batch answers 1"]:
        """The answers, some word where there is none."""
        return self.labels.where(self.labels != IGNORED, 0).unsqueeze(-1)

    @cached_property
    def others(self) -> Float[Tensor, "batch answers words"]:
        """Each word's probability, 0 for the answer."""
        return self.p.scatter(-1, self.words, 0.0)

    @cached_property
    def doubt(self) -> Float[Tensor, "batch answers"]:
        """1 − p of each answer token."""
        return self.others.sum(dim=-1)

    @cached_property
    def error_length(self) -> Float[Tensor, "batch answers"]:
        """‖softmax − one-hot‖ of each answer token."""
        return torch.hypot(torch.linalg.vector_norm(self.others, dim=-1), self.doubt)

    @cached_property
    def nll(self) -> Float[Tensor, " batch"]:
        """Mean over each sample's answer tokens of −log p, in nats."""
        return _nll(self.log_p.gather(-1, self.words).squeeze(-1), self.doubt, self.labels)

    def loss_gradient(self) -> Float[Tensor, "batch answers words"]:
        """The gradient of each sample's nll at its own logits: (softmax − one-hot) / answer tokens, 0 at padding."""
        answer = self.labels != IGNORED
        shares = answer / answer.sum(dim=1, keepdim=True)
        error = self.others.scatter(-1, self.words, -self.doubt.unsqueeze(-1))
        return error.mul_(shares.unsqueeze(-1))

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
    """Mean over each sample's answer tokens of −log p, in nats, as `Outputs` has it."""
    return Outputs(logits, labels, None, logits.new_zeros(len(logits))).nll


def mean_over_answers(
    values: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean of `values` where the label is an answer token.

    They are added one after another, so that it does not matter how long the batch's longest answer is.
    """
    answer = labels != IGNORED
    return (values * answer).cumsum(dim=1)[:, -1] / answer.sum(dim=1)


def _nll(
    log_p: Float[Tensor, "batch answers"], doubt: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """From each answer token's log p or, where p is nearly 1 and log p nearly 0, from what is missing to 1."""
    sure = doubt < 0.5
    return mean_over_answers(torch.where(sure, -torch.log1p(-doubt.where(sure, 0.0)), -log_p), labels)

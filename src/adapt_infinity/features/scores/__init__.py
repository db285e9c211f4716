"""Score functions: what one forward pass (and one gradient norm) says of a sample; one file each, found by name.

Each has one function, `score(outputs) -> one number a sample`, and may say in `NEEDS` which fields of `Outputs` it
cannot do without. METHOD section 2 lists the definitions. The scores compete to be the selector expert of a cluster;
which ones take part is `selector_experts.experts`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adapt_infinity import registry
from adapt_infinity.data.sample import IGNORED_LABEL


class Tokens(NamedTuple):
    """What each answer token comes to. Nothing here is as large as the vocabulary."""

    log_p: Float[Tensor, "batch answers"]
    doubt: Float[Tensor, "batch answers"]  # 1 − p
    entropy: Float[Tensor, "batch answers"]  # of the whole prediction, in nats
    error_length: Float[Tensor, "batch answers"]  # ‖softmax − one-hot‖


@dataclass(frozen=True)
class Outputs:
    """What the model said of a batch, at answer positions only.

    A walk over the vocabulary is the dearest part of every score: it is taken once, and what scores need of it is kept.
    """

    logits: Float[Tensor, "batch answers words"]
    labels: Int[Tensor, "batch answers"]  # IGNORED_LABEL where a sample has fewer answer tokens than the longest
    gradient_norm: Float[Tensor, " batch"] | None  # of the sample's own mean answer loss; None: no gradient was taken
    nll_without_image: Float[Tensor, " batch"] | None  # the nll for a sample that has no picture; None: not read
    squared_hidden_norm: Float[Tensor, "batch answers"] | None = None  # ‖h‖² of what goes into the head

    @cached_property
    def tokens(self) -> Tokens:
        """Of every answer token; what stands at padding means nothing."""
        return self._walk()[0]

    @cached_property
    def nll(self) -> Float[Tensor, " batch"]:
        """Mean over each sample's answer tokens of −log p, in nats."""
        return _nll(self.tokens.log_p, self.tokens.doubt, self.labels)

    def loss_gradient(self) -> Float[Tensor, "batch answers words"]:
        """The gradient of each sample's nll at its own logits: (softmax − one-hot) / answer tokens, 0 at padding."""
        tokens, error = self._walk()
        self.__dict__["tokens"] = tokens
        answer = self.labels != IGNORED_LABEL
        return error.mul_((answer / answer.sum(dim=1, keepdim=True)).unsqueeze(-1))

    @torch.no_grad()
    def _walk(self) -> tuple[Tokens, Float[Tensor, "batch answers words"]]:
        """Tokens, and softmax − one-hot, whose only holder is the caller."""
        words = _words(self.labels)
        log_p = torch.log_softmax(self.logits, dim=-1)
        error = log_p.exp()
        entropy = -torch.linalg.vecdot(error, log_p)
        doubt = _doubt(error, words)
        error.scatter_(-1, words, -doubt.unsqueeze(-1))
        said = log_p.gather(-1, words).squeeze(-1)
        return Tokens(said, doubt, entropy, torch.linalg.vector_norm(error, dim=-1)), error

    def completed(
        self, gradient_norm: Float[Tensor, " batch"] | None, nll_without_image: Float[Tensor, " batch"] | None
    ) -> "Outputs":
        """The same outputs, with what was computed of them, and with what only another pass could tell."""
        whole = copy.copy(self)
        whole.__dict__.update(gradient_norm=gradient_norm, nll_without_image=nll_without_image)
        return whole


def names() -> list[str]:
    """Every score there is."""
    return registry.names(__name__)


def load(name: str) -> Callable[[Outputs], Float[Tensor, " batch"]]:
    """The score function `name`; `ValueError` names the known ones."""
    score: Callable[[Outputs], Float[Tensor, " batch"]] = registry.load(__name__, name, "score")
    return score


def needs(name: str) -> tuple[str, ...]:
    """The fields of `Outputs` that the score `name` cannot do without, and that may be missing."""
    return tuple(getattr(registry.module(__name__, name), "NEEDS", ()))


def available(outputs: Outputs) -> list[str]:
    """The scores whose declared needs are met: without a gradient there is no gradient norm to give."""
    return [name for name in names() if all(getattr(outputs, need) is not None for need in needs(name))]


@torch.no_grad()
def answer_nll(
    logits: Float[Tensor, "batch answers words"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean over each sample's answer tokens of −log p, in nats; no graph."""
    words, log_p = _words(labels), torch.log_softmax(logits, dim=-1)
    said = log_p.gather(-1, words).squeeze(-1)
    return _nll(said, _doubt(log_p.exp_(), words), labels)


def mean_over_answers(
    values: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean of `values` where the label is an answer token.

    They are added one after another, so that it does not matter how long the batch's longest answer is.
    """
    answer = labels != IGNORED_LABEL
    return (values * answer).cumsum(dim=1)[:, -1] / answer.sum(dim=1)


def _words(labels: Int[Tensor, "batch answers"]) -> Int[Tensor, "batch answers 1"]:
    """The answers, some word where there is none."""
    return labels.where(labels != IGNORED_LABEL, 0).unsqueeze(-1)


def _doubt(
    p: Float[Tensor, "batch answers words"], words: Int[Tensor, "batch answers 1"]
) -> Float[Tensor, "batch answers"]:
    """1 − p of each answer, as the sum of all other words: where p is nearly 1, its difference from 1 has lost its
    digits in fp32. Leaves 0 in `p` where the answer was.
    """
    return p.scatter_(-1, words, 0.0).sum(dim=-1)


def _nll(
    log_p: Float[Tensor, "batch answers"], doubt: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """From each answer token's log p or, where p is nearly 1 and log p nearly 0, from what is missing to 1."""
    return mean_over_answers(torch.where(doubt < 0.5, -torch.log1p(-doubt), -log_p), labels)

"""Scores: one number per sample, from one forward pass and, for some, more. One file each, found by file name.

nll.py              loss of the answer
perplexity.py       exp of the loss
el2n.py             length of the error vector
entropy.py          entropy of the prediction
grand.py            norm of the sample's gradient
image_grounding.py  how much the image helps
fisher_trace.py     trace of the Fisher information of the head

Each file has one function, `score(outputs) -> [batch]`, and may list in `NEEDS` the optional fields of `Outputs` that
it uses. docs/method.md, section 2, has the definitions. The scores that are listed in `selector_experts.experts`
compete to be the selector expert of a cluster.
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


class TokenStatistics(NamedTuple):
    """What scores need of each answer token. Values at padding are meaningless."""

    log_p: Float[Tensor, "batch answers"]  # log-probability of the answer token
    one_minus_p: Float[Tensor, "batch answers"]
    entropy: Float[Tensor, "batch answers"]  # of the predicted distribution, in nats
    error_length: Float[Tensor, "batch answers"]  # ‖softmax − one-hot‖₂


@dataclass(frozen=True)
class Outputs:
    """The model's outputs for a batch, at answer positions only.

    Going through the vocabulary is the most expensive part of every score. It is done once, and the statistics of each
    token are kept.
    """

    logits: Float[Tensor, "batch answers words"]
    labels: Int[Tensor, "batch answers"]  # IGNORED_LABEL where a sample has fewer answer tokens than the longest
    # Optional: None where it was not computed. Scores list in NEEDS which of these they use.
    gradient_norm: Float[Tensor, " batch"] | None  # L2 norm of the gradient of the sample's own mean answer loss
    nll_without_image: Float[Tensor, " batch"] | None  # for a sample without an image, its nll
    squared_hidden_norm: Float[Tensor, "batch answers"] | None = None  # ‖h‖² of the head's input

    @cached_property
    def tokens(self) -> TokenStatistics:
        """Statistics of every answer token."""
        return self._tokens_and_error()[0]

    @cached_property
    def nll(self) -> Float[Tensor, " batch"]:
        """Mean over each sample's answer tokens of −log p, in nats."""
        return _nll(self.tokens.log_p, self.tokens.one_minus_p, self.labels)

    def required(self, field: str) -> Tensor:
        """The optional field of this name. `ValueError` when it was not computed."""
        value: Tensor | None = getattr(self, field)
        if value is None:
            raise ValueError(f"this score needs Outputs.{field}, which was not computed; see NEEDS in the score's file")
        return value

    def loss_gradient(self) -> Float[Tensor, "batch answers words"]:
        """The gradient of each sample's nll at its own logits: (softmax − one-hot) / answer tokens; 0 at padding."""
        tokens, error = self._tokens_and_error()
        self.__dict__["tokens"] = tokens
        answer = self.labels != IGNORED_LABEL
        return error.mul_((answer / answer.sum(dim=1, keepdim=True)).unsqueeze(-1))

    @torch.no_grad()
    def _tokens_and_error(self) -> tuple[TokenStatistics, Float[Tensor, "batch answers words"]]:
        """The statistics, and softmax − one-hot, which is not kept here and which the caller may overwrite."""
        words = _answer_words(self.labels)
        log_p = torch.log_softmax(self.logits, dim=-1)
        error = log_p.exp()
        entropy = -torch.linalg.vecdot(error, log_p)
        one_minus_p = _one_minus_p(error, words)
        error.scatter_(-1, words, -one_minus_p.unsqueeze(-1))
        answer_log_p = log_p.gather(-1, words).squeeze(-1)
        return TokenStatistics(answer_log_p, one_minus_p, entropy, torch.linalg.vector_norm(error, dim=-1)), error

    def completed(
        self, gradient_norm: Float[Tensor, " batch"] | None, nll_without_image: Float[Tensor, " batch"] | None
    ) -> "Outputs":
        """A copy with other optional fields. What was already computed of the logits is not computed again."""
        whole = copy.copy(self)
        whole.__dict__.update(gradient_norm=gradient_norm, nll_without_image=nll_without_image)
        return whole


def names() -> list[str]:
    """The names of all scores."""
    return registry.names(__name__)


def load(name: str) -> Callable[[Outputs], Float[Tensor, " batch"]]:
    """The function `score` of the file `name`. `ValueError` lists the known ones."""
    score: Callable[[Outputs], Float[Tensor, " batch"]] = registry.load(__name__, name, "score")
    return score


def needs(name: str) -> tuple[str, ...]:
    """The optional fields of `Outputs` that the score `name` uses."""
    return tuple(getattr(registry.module(__name__, name), "NEEDS", ()))


def available(outputs: Outputs) -> list[str]:
    """The scores whose `NEEDS` are in `outputs`: without a gradient, for example, there is no gradient norm."""
    return [name for name in names() if all(getattr(outputs, need) is not None for need in needs(name))]


@torch.no_grad()
def answer_nll(
    logits: Float[Tensor, "batch answers words"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean over each sample's answer tokens of −log p, in nats, without a graph."""
    words, log_p = _answer_words(labels), torch.log_softmax(logits, dim=-1)
    answer_log_p = log_p.gather(-1, words).squeeze(-1)
    return _nll(answer_log_p, _one_minus_p(log_p.exp_(), words), labels)


def mean_over_answers(
    values: Float[Tensor, "batch answers"], labels: Int[Tensor, "batch answers"]
) -> Float[Tensor, " batch"]:
    """Mean of `values` over each sample's answer tokens.

    A cumulative sum adds the values one after another: the result does not depend on the longest answer of the batch.
    """
    answer = labels != IGNORED_LABEL
    return (values * answer).cumsum(dim=1)[:, -1] / answer.sum(dim=1)


def _answer_words(labels: Int[Tensor, "batch answers"]) -> Int[Tensor, "batch answers 1"]:
    """The labels as indices into the vocabulary; word 0 at padding."""
    return labels.where(labels != IGNORED_LABEL, 0).unsqueeze(-1)


def _one_minus_p(
    p: Float[Tensor, "batch answers words"], words: Int[Tensor, "batch answers 1"]
) -> Float[Tensor, "batch answers"]:
    """1 − p of each answer token, as the sum of p over all other words. Sets `p` of the answer tokens to 0.

    Where p is near 1, a subtraction in fp32 would lose the digits of 1 − p.
    """
    return p.scatter_(-1, words, 0.0).sum(dim=-1)


def _nll(
    log_p: Float[Tensor, "batch answers"],
    one_minus_p: Float[Tensor, "batch answers"],
    labels: Int[Tensor, "batch answers"],
) -> Float[Tensor, " batch"]:
    """Mean of −log p; where p is above 1/2, from 1 − p, which has more digits there."""
    return mean_over_answers(torch.where(one_minus_p < 0.5, -torch.log1p(-one_minus_p), -log_p), labels)

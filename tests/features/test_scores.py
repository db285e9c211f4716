"""Scores by hand, and what holds for every score, including those that will be added."""

import math

import pytest
import torch

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.features import scores
from adapt_infinity.features.scores import (
    Outputs,
    el2n,
    entropy,
    fisher_trace,
    grand,
    image_grounding,
    nll,
    perplexity,
)


def outputs(logits: torch.Tensor, labels: torch.Tensor) -> Outputs:
    count = len(logits)
    squares = torch.arange(1.0, labels.shape[1] + 1).expand(labels.shape)
    return Outputs(logits, labels, torch.arange(1.0, count + 1), torch.full((count,), 3.0), squares)


TOSS = outputs(torch.zeros(1, 3, 2), torch.tensor([[0, 1, 0]]))


def test_every_score_by_hand() -> None:
    """A coin toss between two words: the loss is log 2, and the error vector (−1/2, 1/2) has the length √(1/2)."""
    assert nll.score(TOSS).item() == pytest.approx(math.log(2))
    assert perplexity.score(TOSS).item() == pytest.approx(2)
    assert entropy.score(TOSS).item() == pytest.approx(math.log(2))
    assert el2n.score(TOSS).item() == pytest.approx(0.5**0.5)
    assert grand.score(TOSS).item() == 1
    assert image_grounding.score(TOSS).item() == pytest.approx(3 - math.log(2))


def test_the_fisher_trace_is_the_squared_gradient_of_the_head() -> None:
    """Of one token: what autograd gives for the head's matrix. Of several: the mean over answer tokens."""
    generator = torch.Generator().manual_seed(0)
    head, hidden = torch.randn(7, 4, generator=generator, requires_grad=True), torch.randn(1, 3, 4, generator=generator)
    labels = torch.tensor([[2, IGNORED_LABEL, 5]])
    squares = []
    for position in (0, 2):
        loss = torch.nn.functional.cross_entropy(head @ hidden[0, position], labels[0, position])
        (gradient,) = torch.autograd.grad(loss, head)
        squares.append(gradient.square().sum().item())
    found = Outputs(hidden @ head.detach().T, labels, None, torch.zeros(1), hidden.square().sum(dim=-1))
    assert fisher_trace.score(found).item() == pytest.approx(sum(squares) / 2, rel=1e-5)


@pytest.mark.parametrize("gap", [0.0, 3.0, 9.0, 14.0])
def test_loss_and_gradient_keep_their_digits_where_the_model_is_nearly_certain(gap: float) -> None:
    """Compared with float64. softmax − one-hot in fp32 would be wrong by 2e-4 at a gap of 9, by 4 % at 14."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 4, 50, generator=generator), torch.randint(0, 50, (2, 4), generator=generator)
    logits.scatter_add_(-1, labels.unsqueeze(-1), torch.full((2, 4, 1), gap))
    labels[1, 2:] = IGNORED_LABEL
    exact = logits.double().requires_grad_(True)
    words = torch.nn.functional.cross_entropy(exact.flatten(0, 1), labels.flatten(), reduction="none").view(2, 4)
    losses = words.sum(dim=1) / (labels != IGNORED_LABEL).sum(dim=1)
    (gradient,) = torch.autograd.grad(losses.sum(), exact)
    found = outputs(logits, labels)
    torch.testing.assert_close(found.nll.double(), losses.detach(), rtol=2e-6, atol=0)
    torch.testing.assert_close(found.loss_gradient().double(), gradient, rtol=5e-6, atol=0)
    assert found.tokens.error_length[0].double().tolist() == pytest.approx(
        (gradient[0].norm(dim=-1) * 4).tolist(), rel=5e-6
    )


def test_the_loss_of_very_improbable_answers_is_finite() -> None:
    logits = torch.tensor([[[0.0, 2.0, -1.0], [200.0, 0.0, 0.0]], [[9.0, 0.0, 0.0], [0.1, 0.0, 0.2]]])
    labels = torch.tensor([[1, 2], [0, IGNORED_LABEL]])
    expected = [(math.log(1 + math.exp(-2) + math.exp(-3)) + 200) / 2, math.log(1 + 2 * math.exp(-9))]
    assert scores.answer_nll(logits, labels).tolist() == pytest.approx(expected)
    assert outputs(logits, labels).nll.tolist() == pytest.approx(expected)


def test_perplexity_is_of_the_mean_loss_not_the_mean_of_perplexities() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.125, 0.875]]]))
    score = perplexity.score(outputs(logits, torch.tensor([[0, 0]]))).item()
    assert score == pytest.approx(4)  # sqrt(2 * 8), not (2 + 8) / 2


@pytest.mark.parametrize("name", scores.names())
def test_padding_changes_nothing(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, generator=generator), torch.tensor([[1, 2, 3], [4, 0, 1]])
    padded = outputs(
        torch.cat([logits, 50 * torch.randn(2, 2, 5, generator=generator)], dim=1),
        torch.cat([labels, torch.full((2, 2), IGNORED_LABEL)], dim=1),
    )
    score = scores.load(name)
    assert torch.allclose(score(outputs(logits, labels)), score(padded), atol=1e-6)


@pytest.mark.parametrize("name", scores.names())
def test_a_row_has_the_same_score_alone_and_in_a_batch(name: str) -> None:
    logits, labels = (
        torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)),
        torch.zeros(4, 3, dtype=torch.int64),
    )
    norms = torch.arange(1.0, 5)
    squares = torch.arange(12.0).view(4, 3)
    ablated = torch.arange(2.0, 6)
    many = Outputs(logits, labels, norms, ablated, squares)
    for row in range(4):
        part = slice(row, row + 1)
        alone = Outputs(logits[part], labels[part], norms[part], ablated[part], squares[part])
        assert scores.load(name)(alone).item() == pytest.approx(scores.load(name)(many)[row].item(), abs=1e-6)


@pytest.mark.parametrize(("certain", "expected"), [([30.0, -30.0], 0.0), ([-30.0, 30.0], math.sqrt(2))])
def test_el2n_bounds(certain: list[float], expected: float) -> None:
    assert el2n.score(outputs(torch.tensor([[certain]]), torch.tensor([[0]]))).item() == pytest.approx(expected)


def test_needs_lists_the_scores_that_use_a_gradient() -> None:
    assert [name for name in scores.names() if "gradient_norm" in scores.needs(name)] == ["grand"]
    without = TOSS.completed(None, TOSS.nll_without_image)
    assert scores.available(TOSS) == scores.names()
    assert scores.available(without) == [name for name in scores.names() if name != "grand"]


def test_needs_lists_the_scores_that_use_a_pass_without_images() -> None:
    once = TOSS.completed(TOSS.gradient_norm, None)
    assert scores.available(once) == [name for name in scores.names() if name != "image_grounding"]


def test_completed_outputs_compute_nothing_again() -> None:
    before = outputs(torch.randn(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64))
    shared = before.tokens
    after = before.completed(torch.tensor([5.0, 6.0]), before.nll)
    assert after.tokens is shared
    assert grand.score(after).tolist() == [5, 6]
    assert grand.score(before).tolist() == [1, 2]
    assert image_grounding.score(after).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["grand", "image_grounding", "fisher_trace"])
def test_a_score_without_the_field_it_needs_is_an_error_that_names_the_field(name: str) -> None:
    bare = Outputs(TOSS.logits, TOSS.labels, None, None)
    with pytest.raises(ValueError, match=rf"needs Outputs\.{scores.needs(name)[0]}, which was not computed"):
        scores.load(name)(bare)

"""The formula of every method, worked out by hand, most of them on a model of two weights."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapt_infinity.model.modality_embeddings import MODALITIES
from adapt_infinity.pool.pool import Pool
from adapt_infinity.training import penalty, stored_logits
from adapt_infinity.training.context import ReplayMemory, TrainingContext
from adapt_infinity.training.method_state import MethodState
from adapt_infinity.training.methods import agem, ema, ewc, lwf, mas, o_lora, replay, tir
from adapt_infinity.training.parameter_vector import Weights
from adapt_infinity.training.schedule import Step
from tests.training.usual import Toy

STEP = Step(0, 0, (0,))


def two(theta: tuple[float, float], gradient: tuple[float, float] = (0.0, 0.0)) -> Weights:
    """A model of two weights."""
    return Weights(("a", "b"), (torch.Size([1]), torch.Size([1])), torch.tensor(theta), torch.tensor(gradient), 2)


class FixedGradients(TrainingContext):
    """A context whose `gradient_of` returns the given gradients, one per call."""

    def __init__(self, weights: Weights, *gradients: tuple[float, float]) -> None:
        remaining = iter([torch.tensor(gradient) for gradient in gradients])
        memory = ReplayMemory(Pool(), 2)
        for name, value in (("weights", weights), ("memory", memory), ("remaining", remaining)):
            object.__setattr__(self, name, value)

    def gradient_of(self, samples: Any, loss: Any = None) -> Tensor:
        return next(self.remaining)  # type: ignore[attr-defined]

    def draw_samples(self, count: int) -> Any:
        return list(range(count))


def test_a_quadratic_penalty() -> None:
    """λ = 2, I = (1, 3), θ − θ* = (2, −1): (2/2)(1·4 + 3·1) = 7, gradient 2 (1·2, 3·−1)."""
    weights = two((3.0, 0.0), (0.5, 0.5))
    held = penalty.QuadraticPenalty(weights, torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]), 2.0)
    assert held.on_gradient(STEP) == 7.0
    assert weights.gradient.tolist() == [4.5, -5.5]


def test_a_penalty_agrees_with_autograd() -> None:
    theta = torch.tensor([3.0, 0.5], requires_grad=True)
    importance, anchor = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])
    (2.0 / 2 * (importance * (theta - anchor) ** 2).sum()).backward()
    weights = two((3.0, 0.5))
    penalty.QuadraticPenalty(weights, importance, anchor, 2.0).on_gradient(STEP)
    assert theta.grad is not None
    assert torch.equal(weights.gradient, theta.grad)


def test_the_fisher_information_is_the_mean_square_of_batch_gradients() -> None:
    """Batches with (1, 2) and (3, 0): E[g²] = (5, 2), which sums to 7."""
    context = FixedGradients(two((0.0, 0.0)), (1.0, 2.0), (3.0, 0.0))
    assert torch.allclose(penalty.fisher_information(context, batches=2, batch_size=1), torch.tensor([5 / 7, 2 / 7]))


def test_the_fisher_information_of_the_model_is_that_of_autograd(toy: Toy) -> None:
    context = toy.context(1)
    found = context.weights.views(penalty.fisher_information(context, batches=8, batch_size=1))
    live = dict(context.vlm.model.named_parameters())
    trained = [live[name] for name in context.weights.names]
    squares = [torch.zeros(weight.shape) for weight in trained]
    for _, batch in (pair for sample in toy.samples(1) for pair in context.batches([sample])):
        loss = context.vlm.model(**batch.inputs(context.vlm.device), labels=batch.labels).loss  # transformers' own
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        squares = [square + (0 if g is None else g.square()) for square, g in zip(squares, gradients, strict=True)]
    total = torch.stack([square.sum() for square in squares]).sum()
    for name, square in zip(context.weights.names, squares, strict=True):
        assert torch.allclose(found[name], square / total, rtol=1e-3, atol=1e-9), name


def test_mas_needs_no_label() -> None:
    """The squared length of logits (3, 4) is 25, whatever the label; a position without a label does not count."""
    logits = torch.tensor([[[3.0, 4.0], [1.0, 1.0]]])
    assert penalty._squared_logits(logits, torch.tensor([[0, -100]])).item() == 25
    assert penalty._squared_logits(logits, torch.tensor([[1, -100]])).item() == 25


def test_ewc_online_and_separate() -> None:
    """θ*₁ = 0, θ*₂ = 1. Gradient of separate: λ (F₁ (θ − 0) + F₂ (θ − 1)); online: about θ*₂ with γ F₁ + F₂."""
    old, found = torch.tensor([0.25, 0.0]), torch.tensor([0.75, 0.0])
    anchors = torch.zeros(2), torch.ones(2)
    separate = ewc.Params(strength=1.0, variant="separate", decay=0.5, batches=1, batch_size=1)
    total, middle = ewc.combine(old, anchors[0], found, anchors[1], separate)
    assert total.tolist() == [1.0, 0.0]
    assert middle.tolist() == [0.75, 1.0], "without any importance the anchor is the last weights"
    theta = torch.tensor([2.0, 2.0])
    assert (total * (theta - middle))[0] == (old * (theta - anchors[0]) + found * (theta - anchors[1]))[0]
    online = ewc.Params(strength=1.0, variant="online", decay=0.5, batches=1, batch_size=1)
    total, anchor = ewc.combine(old, anchors[0], found, anchors[1], online)
    assert total.tolist() == [0.875, 0.0]
    assert anchor.tolist() == [1.0, 1.0]


def test_the_importance_is_computed_without_the_penalty() -> None:
    """The Fisher information comes from the losses alone, although the round was trained with the penalty."""
    weights = two((2.0, 2.0))
    state = MethodState(
        "ewc", {"importance": torch.ones(2), "anchor": torch.zeros(2)}, {"layout": weights.layout, "round": 1}
    )
    params = ewc.Params(strength=1.0, variant="online", decay=1.0, batches=1, batch_size=1)
    callbacks = ewc.start(FixedGradients(weights, (1.0, 0.0)), state, params)
    assert callbacks.on_gradient(STEP) == 4.0
    assert callbacks.at_end().tensors["importance"].tolist() == [2.0, 1.0]


def test_importances_of_mas_add_up() -> None:
    weights = two((2.0, 2.0))
    tensors = {"importance": torch.tensor([0.5, 0.5]), "anchor": torch.zeros(2)}
    state = MethodState("mas", tensors, {"layout": weights.layout, "round": 1})
    context = FixedGradients(weights, (-3.0, 1.0))
    found = mas.start(context, state, mas.Params(strength=1.0, batches=1, batch_size=1)).at_end()
    assert found.tensors["importance"].tolist() == [1.25, 0.75]
    assert found.tensors["anchor"].tolist() == [2.0, 2.0]


def test_importances_of_other_weights_are_refused() -> None:
    state = MethodState("ewc", {"importance": torch.ones(2), "anchor": torch.zeros(2)}, {"layout": "other"})
    with pytest.raises(ValueError, match="the state of ewc belongs to other weights"):
        penalty.stored_vectors(two((0.0, 0.0)), state, "importance")


def test_lwf_is_0_without_a_change_and_pulls_back_after_one() -> None:
    """Probabilities (½, ½) before, (¾, ¼) now: KL = ½ ln(½ / ¾) + ½ ln(½ / ¼) = ½ ln(4/3).

    Its gradient by the logits is p_now − p_before = (¼, −¼), so a step against it goes back.
    """
    before = torch.zeros(1, 1, 2)
    now = torch.tensor([[[math.log(3.0), 0.0]]], requires_grad=True)
    labels = torch.tensor([[0]])
    assert lwf.divergence(before, before, labels, 1.0).item() == 0
    found = lwf.divergence(before, now, labels, 1.0)
    assert found.item() == pytest.approx(0.5 * math.log(4 / 3))
    found.backward()
    assert now.grad is not None
    assert now.grad.flatten().tolist() == pytest.approx([0.25, -0.25])


def test_lwf_temperature_and_padding() -> None:
    before, now = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]), torch.tensor([[[2 * math.log(3.0), 0.0], [9.0, 0.0]]])
    found = lwf.divergence(before, now, torch.tensor([[1, -100]]), 2.0)
    assert found.item() == pytest.approx(4 * 0.5 * math.log(4 / 3)), "T² times the divergence at T, without padding"


def test_agem_removes_the_part_against_the_memory() -> None:
    """G = (1, 0), r = (−1, 1): g·r = −1, ‖r‖² = 2, g + r/2 = (½, ½), at a right angle to r."""
    gradient = torch.tensor([1.0, 0.0])
    assert agem.project(gradient, torch.tensor([-1.0, 1.0])) == 1.0
    assert gradient.tolist() == [0.5, 0.5]
    gradient = torch.tensor([1.0, 0.0])
    assert agem.project(gradient, torch.tensor([2.0, 5.0])) == 0.0
    assert gradient.tolist() == [1.0, 0.0]


def test_agem_reads_only_earlier_rounds(toy: Toy) -> None:
    context = toy.context(2)
    drawn = context.draw_replay(3, step=0)
    assert len(drawn) == 3
    assert {sample.source for sample in drawn} == {"toy"}
    assert drawn == context.draw_replay(3, step=0)
    assert drawn != context.draw_replay(3, step=1)


def test_o_lora_overlap() -> None:
    """Old (1, 2), new (3, −1): product 1; with new (−3, 1) it is −1."""
    old = torch.tensor([[1.0, 2.0]])
    for new, sign in ((torch.tensor([[3.0, -1.0]]), 1.0), (torch.tensor([[-3.0, 1.0]]), -1.0)):
        value, slope = o_lora.overlap(new, old, "l1")
        assert value == 1
        assert slope.tolist() == [[sign, 2 * sign]]
        value, slope = o_lora.overlap(new, old, "frobenius")
        assert value == 1
        assert slope.tolist() == [[2 * sign, 4 * sign]]


@pytest.mark.parametrize("norm", ["l1", "frobenius"])
def test_o_lora_slope_is_that_of_autograd(norm: str) -> None:
    draw = torch.Generator().manual_seed(0)
    new, old = (torch.randn(3, 5, generator=draw) for _ in range(2))
    new.requires_grad_(True)
    value, slope = o_lora.overlap(new, old, norm)
    value.backward()
    assert new.grad is not None
    assert torch.allclose(slope, new.grad, atol=1e-6)


def test_o_lora_uses_every_adapted_module(toy: Toy) -> None:
    one = toy.train("o_lora", 1)
    two = toy.train("o_lora", 2, one)
    assert one[0].frozen_rank == 4, "the adapter of genesis is frozen"
    assert (two[0].frozen_rank, two[0].config["r"]) == (8, 12)
    for name, tensor in one[0].tensors.items():  # the earlier ranks are unchanged
        assert torch.equal(two[0].tensors[name].narrow(0 if "lora_A" in name else 1, 0, 8), tensor)
    live = {f"m.{part}.lora_A.default.weight": torch.ones(1, 2) for part in "ab"}
    found = o_lora.frozen_a(live, {"m.a.lora_A.weight": torch.ones(3, 2)})
    assert list(found) == ["m.a.lora_A.default.weight"]


def test_ema_by_hand() -> None:
    """From 0, weights 1 and then 3 with β = ½: ½, then 1¾, which is what the round deploys."""
    weights = two((0.0, 0.0))
    callbacks = ema.start(FixedGradients(weights), MethodState(), ema.Params(decay=0.5, dynamic=False))
    for theta in (1.0, 3.0):
        weights.theta.fill_(theta)
        callbacks.on_step(STEP)
    assert callbacks.checkpointed["average"].tolist() == [1.75, 1.75]
    callbacks.at_end()
    assert weights.theta.tolist() == [1.75, 1.75]


def test_dynamic_ema_by_hand() -> None:
    """G went from 1 to 2 in a step of ½, so the curvature is 2; θ is 4 from the average: β = 2 / (2·4) = ¼. The second
    weight is 0.4 from the average: 2 / 0.8, which is kept below 1.
    """
    weights = two((4.0, 0.4), (2.0, 2.0))
    tensors = {"average": torch.zeros(2), "theta": torch.tensor([3.5, -0.1]), "gradient": torch.ones(2)}
    assert ema.dynamic_decay(weights, tensors, 0.0).tolist() == pytest.approx([0.25, ema.LARGEST])
    assert ema.dynamic_decay(weights, tensors, 0.5).tolist() == pytest.approx([0.5, ema.LARGEST])


def memory_of(sources: list[str]) -> ReplayMemory:
    """A memory of the samples 0, 1, … from these datasets."""
    memory = ReplayMemory(Pool(), 3)
    vars(memory).update(ids=np.arange(len(sources)), sources=np.array(sources))
    return memory


def test_replay_gives_each_earlier_dataset_its_share() -> None:
    """Of 20 new samples, a tenth to each of two earlier datasets: 16 new, 2 and 2 old."""
    memory = memory_of(["a"] * 30 + ["b"] * 50)
    new = np.arange(100, 120)
    ids = replay.replace_samples(new, memory, replay.Params(share=0.1, memory=0), 0)
    assert len(ids) == len(set(ids.tolist())) == 20
    assert ((ids >= 100).sum(), (ids < 30).sum(), ((ids >= 30) & (ids < 100)).sum()) == (16, 2, 2)
    ids = replay.replace_samples(new, memory, replay.Params(share=0.1, memory=10), 0)
    assert ((ids < 30).sum(), ((ids >= 30) & (ids < 100)).sum()) == (5, 5)
    ids = replay.replace_samples(new, memory, replay.Params(share=1.0, memory=0), 0)
    assert ((ids < 30).sum(), ((ids >= 30) & (ids < 100)).sum(), (ids >= 100).sum()) == (6, 6, 8), "a third each"


def test_replay_draws_no_sample_twice() -> None:
    """Samples that the data strategy has already chosen are not drawn again."""
    memory = memory_of(["a"] * 10)
    ids = replay.replace_samples(np.arange(8), memory, replay.Params(share=0.5, memory=0), 0)
    assert len(set(ids.tolist())) == 8
    assert {8, 9} <= set(ids.tolist())


def test_similarity_of_three_tasks() -> None:
    """The new task equals the second earlier task, is at a right angle to the first and opposite to the third."""
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    earlier = dict.fromkeys(MODALITIES, directions)
    task = dict.fromkeys(MODALITIES, torch.tensor([0.0, 2.0]))
    found = tir.similarities(earlier, task)
    z = 1 / math.sqrt(2 / 3)  # cosines 0, 1, −1: mean 0, standard deviation √(2/3)
    expected = [0.5**3, (1 / (1 + math.exp(-z))) ** 3, (1 / (1 + math.exp(z))) ** 3]
    assert found.tolist() == pytest.approx(expected)


def test_similarity_to_a_single_task_is_the_product_of_cosines() -> None:
    earlier = {name: torch.tensor([[1.0, 0.0]]) for name in MODALITIES}
    task = dict(zip(MODALITIES, torch.tensor([[1.0, 1.0], [3.0, 0.0], [1.0, 0.0]]), strict=True))
    assert tir.similarities(earlier, task).tolist() == pytest.approx([math.sqrt(0.5)])
    task["answer"] = torch.tensor([-1.0, 0.0])
    assert tir.similarities(earlier, task).tolist() == [0.0]


def test_tir_assigns_each_weight_to_the_task_that_needs_it_most() -> None:
    first_task = torch.zeros(2, dtype=torch.uint8)
    importance, owner = tir.take_maximum(torch.tensor([0.5, 0.1]), first_task, torch.tensor([0.4, 0.2]), number=1)
    assert importance.tolist() == pytest.approx([0.5, 0.2])
    assert owner.tolist() == [0, 1]


def test_tir_does_not_hold_weights_for_a_task_like_the_new_one(toy: Toy) -> None:
    """The same round again is the same task: the similarity is 1, and the penalty is 0."""
    params = tir.Params(strength=1.0, importance="ewc", batches=2, batch_size=2, samples=8)
    context = toy.context(1)
    state = tir.start(context, MethodState("tir"), params).at_end()
    moved = toy.context(1)
    moved.weights.theta.add_(1.0)
    assert tir.start(moved, state, params).on_gradient(STEP) == pytest.approx(0, abs=1e-5)
    other = toy.context(2)
    other.weights.theta.add_(1.0)
    assert tir.start(other, state, params).on_gradient(STEP) > 1e-3


def test_the_distance_of_der_is_0_before_the_weights_change(toy: Toy) -> None:
    context = toy.context(1)
    stored = stored_logits.update(context, None, memory=8, top=5)
    assert stored.ids.tolist() == list(range(8))
    later = toy.context(2)
    squared, loss = stored_logits.replay_loss(later, stored, [0, 3, 7])
    assert squared.item() == pytest.approx(0, abs=1e-8)
    assert loss.item() > 0
    later.weights.theta.add_(0.05)
    assert stored_logits.replay_loss(later, stored, [0, 3, 7])[0].item() > 1e-3


def test_der_stores_the_largest_logits_of_every_answer_token(toy: Toy) -> None:
    context = toy.context(1)
    stored = stored_logits.update(context, None, memory=8, top=3)
    (sample,) = [sample for sample in toy.samples(1) if sample.sample_id == 4]
    ((rows, batch),) = list(context.batches([sample]))
    with torch.no_grad():
        logits, _ = context.forward(batch)
    words, values = stored.of_sample(4)
    assert len(words) == int(rows[0].answers.sum())
    largest = logits[0].topk(3, dim=-1)
    assert torch.equal(words, largest.indices)
    assert torch.allclose(values, largest.values, atol=1e-5)


def test_missing_logits_are_an_error(toy: Toy) -> None:
    stored = stored_logits.update(toy.context(1), None, memory=4, top=3)
    with pytest.raises(ValueError, match="no logits are stored of sample 99"):
        stored.of_sample(99)
    none = stored.select(stored.ids[:0].numpy())
    with pytest.raises(ValueError, match="none of the 0 samples whose logits are stored is still in the pool"):
        stored_logits.draw_stored(toy.context(2), none, 4, STEP)


def test_der_stores_equally_many_samples_of_each_round(toy: Toy) -> None:
    first = stored_logits.update(toy.context(1), None, memory=6, top=3)
    assert len(first.ids) == 6
    both = stored_logits.update(toy.context(2), first, memory=6, top=3)
    assert both.rounds.tolist() == [1, 1, 1, 2, 2, 2]
    for sample_id in both.ids[:3].tolist():
        assert torch.equal(both.of_sample(sample_id)[1], first.of_sample(sample_id)[1])
    with pytest.raises(ValueError, match="earlier rounds stored 3 or 4 logits per token"):
        stored_logits.update(toy.context(2), first, memory=6, top=4)


def test_a_memory_has_the_samples_of_earlier_rounds(toy: Toy) -> None:
    memory = ReplayMemory(toy.pools[2], 2)
    assert memory.ids.tolist() == list(range(8))
    assert set(memory.sources) == {"toy"}
    assert len(ReplayMemory(toy.pools[1], 1).ids) == 0

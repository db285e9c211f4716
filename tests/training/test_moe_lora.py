"""MoE-LoRA: what it computes, that its routers are trained, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from adapt_infinity.features.capture import capturing, probed_weights
from adapt_infinity.model.adapters import moe_lora as moe_adapter
from adapt_infinity.model.checkpoint import Batch, Vlm, answer_logits, apply_adapter_type, detach, load_vlm
from adapt_infinity.model.lora import adapter_digest, read_adapter, write_adapter
from adapt_infinity.model.merging import merge_adapter
from adapt_infinity.model.prompts import collate, encode, pad_token
from adapt_infinity.training.context import answer_loss
from adapt_infinity.training.method_state import start_state
from adapt_infinity.training.methods import moe_lora
from adapt_infinity.training.methods.finetune import Params as Plain
from adapt_infinity.training.round import TrainingOutputs
from tests.training.usual import Toy, same

TWO = moe_lora.Params(experts=2)


@pytest.fixture(scope="module")
def first(toy: Toy) -> TrainingOutputs:
    return toy.train("moe_lora", 1, params=TWO)


def batch_of(vlm: Vlm, toy: Toy, count: int = 4) -> Batch:
    rows = [encode(vlm, sample, toy.all_pictures) for sample in toy.samples(1)[:count]]
    return collate(rows, pad_token(vlm))


def test_by_hand() -> None:
    """Rank 4 as two experts of rank 2; router outputs (ln 3, 0) give them the weights 3/4 and 1/4."""
    router = torch.nn.Linear(1, 2, bias=False)
    router.weight.data = torch.tensor([[3.0]]).log().repeat(2, 1) * torch.tensor([[1.0], [0.0]])
    values = torch.tensor([[[4.0, 8.0, 12.0, 16.0]]])
    (gated,) = moe_adapter._apply_gates([torch.ones(1, 1, 1)], router, router, (values,))
    assert gated.flatten().tolist() == pytest.approx([3.0, 6.0, 3.0, 4.0])


def test_splitting_into_experts_changes_no_answer(toy: Toy) -> None:
    plain = load_vlm(toy.base, toy.model, toy.adapter)
    batch = batch_of(plain, toy)
    expected = answer_logits(plain, batch)[0]
    cut = apply_adapter_type(plain, *moe_adapter.split_into_experts(plain.model, 4))
    assert torch.allclose(answer_logits(cut, batch)[0], expected, atol=1e-5)


def test_one_expert_equals_fine_tuning_bit_for_bit(toy: Toy) -> None:
    one, log, _ = toy.train("moe_lora", 1, params=moe_lora.PLAIN)
    plain, plain_log, _ = toy.train("finetune", 1, params=Plain())
    assert same(one, plain)
    assert not one.adapter_type
    assert log["loss"].tolist() == plain_log["loss"].tolist()


def test_a_gate_of_one_expert_is_1(toy: Toy) -> None:
    plain = load_vlm(toy.base, toy.model, toy.adapter)
    batch = batch_of(plain, toy)
    expected = answer_logits(plain, batch)[0]
    gated = apply_adapter_type(plain, *moe_adapter.split_into_experts(plain.model, 1))
    assert torch.equal(answer_logits(gated, batch)[0], expected)


def test_its_routers_are_trained_and_counted(first: TrainingOutputs, toy: Toy) -> None:
    adapter, _, _ = first
    assert adapter.adapter_type == {"kind": "moe_lora", "experts": 2}
    assert all(router.any() for router in adapter.extra_tensors.values())
    plain, _, _ = toy.train("finetune", 1, params=Plain())
    assert not same(adapter, plain)
    routers = sum(tensor.numel() for tensor in adapter.extra_tensors.values())
    assert adapter.parameter_count == plain.parameter_count + routers > plain.parameter_count
    assert any("expert_router" in name for name in adapter.moments)


def test_a_second_round_is_the_same_after_a_restart(first: TrainingOutputs, toy: Toy, tmp_path: Path) -> None:
    adapter, log, state = first
    write_adapter(adapter, tmp_path / "adapter")
    read = read_adapter(tmp_path / "adapter")
    assert adapter_digest(read) == adapter_digest(adapter) != adapter_digest(replace(adapter, extra_tensors={}))
    second, second_log, _ = toy.train("moe_lora", 2, first, params=TWO)
    again, _, _ = toy.train("moe_lora", 2, (read, log, state), params=TWO)
    assert adapter_digest(second) == adapter_digest(again)
    before, after = adapter.extra_tensors, second.extra_tensors
    assert any(not torch.equal(after[name], before[name]) for name in before)
    assert len(second_log) == 2 * 2  # five samples in batches of four, twice
    live = load_vlm(toy.base, toy.model, read)
    assert adapter_digest(detach(live, {}, read.moments)) == adapter_digest(adapter)


def test_peft_refuses_to_read_it_as_a_plain_lora(first: TrainingOutputs, toy: Toy, tmp_path: Path) -> None:
    write_adapter(first[0], tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"adapter_config\.json"):
        PeftModel.from_pretrained(load_vlm(toy.base, toy.model).model, str(tmp_path / "adapter"))


def test_impossible_settings_are_refused(first: TrainingOutputs, toy: Toy) -> None:
    with pytest.raises(ValueError, match=r"methods\.moe_lora\.experts must be at least 1, got 0"):
        moe_lora.Params(experts=0)
    with pytest.raises(ValueError, match="must divide the adapter's rank 4, got 3"):
        toy.train("moe_lora", 1, params=moe_lora.Params(experts=3))
    with pytest.raises(ValueError, match="must stay 2 through a stream, got 4"):
        toy.train("moe_lora", 2, first, params=moe_lora.Params(experts=4))
    with pytest.raises(ValueError, match=r"made an adapter of moe_lora, which training\.method=finetune"):
        toy.train("finetune", 2, (first[0], first[1], start_state()), params=Plain())
    with pytest.raises(ValueError, match=r"needs training\.adapter_policy=continue"):
        toy.train("moe_lora", 2, first, params=TWO, adapter_policy="merge_then_new")


def test_its_experts_are_not_merged_into_the_weights(first: TrainingOutputs, toy: Toy) -> None:
    """Gates depend on the token and are part of no weight: a merged model would answer without them."""
    vlm = load_vlm(toy.base, toy.model, first[0])
    batch = batch_of(vlm, toy)
    expected = answer_logits(vlm, batch)[0]
    merge_adapter(vlm)
    assert torch.equal(answer_logits(vlm, batch)[0], expected)


def test_the_probe_sees_each_samples_own_gradient_of_maps_and_routers(first: TrainingOutputs, toy: Toy) -> None:
    vlm = load_vlm(toy.base, toy.model, first[0])
    batch, layers = batch_of(vlm, toy), (1,)
    seen: dict[str, torch.Tensor] = {}
    with capturing(vlm, layers, 1, seen.__setitem__) as capture:
        logits, labels = answer_logits(vlm, batch)
        losses = torch.stack([answer_loss(logits[n : n + 1], labels[n : n + 1]) for n in range(len(labels))])
        capture.backward(losses, torch.ones_like(losses))
    weights = probed_weights(vlm, layers)
    assert seen.keys() == weights.keys()
    assert any("expert_router" in name for name in seen)
    for n, sample in enumerate(toy.samples(1)[:4]):
        alone = collate([encode(vlm, sample, toy.all_pictures)], pad_token(vlm))
        for weight in weights.values():
            weight.requires_grad_(True)
        found = torch.autograd.grad(answer_loss(*answer_logits(vlm, alone)), list(weights.values()))
        for name, gradient in zip(weights, found, strict=True):
            assert torch.allclose(seen[name][n], gradient, rtol=1e-3, atol=1e-6), name

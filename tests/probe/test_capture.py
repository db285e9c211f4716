"""A batched gradient row equals the one that autograd gives for its sample alone."""

import pytest
import torch

from adapt_infinity import experts
from adapt_infinity.model import Vlm, answer_logits
from adapt_infinity.pictures import Pictures
from adapt_infinity.probe.capture import capturing, lora_linears
from adapt_infinity.prompts import collate, encode, pad_token
from adapt_infinity.sample import Sample
from tests.test_prompts import samples  # noqa: F401  (a fixture)


def autograd_rows(vlm: Vlm, layer: int, sample: Sample, pictures: Pictures) -> dict[str, torch.Tensor]:
    """The slow way: one sample, one ordinary backward pass, the gradient of each LoRA weight."""
    weights = {name: linear.weight for name, linear in lora_linears(vlm.layers[layer])}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        logits, labels = answer_logits(vlm, collate([encode(vlm, sample, pictures)], pad_token(vlm)))
        found = torch.autograd.grad(experts.answer_nll(logits, labels).sum(), list(weights.values()))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    return dict(zip(weights, found, strict=True))


@pytest.mark.parametrize("side", ["right", "left"])
def test_batched_rows_equal_autograd(vlm: Vlm, samples: list[Sample], pictures: Pictures, side: str) -> None:  # noqa: F811
    layer = 2
    rows: dict[str, torch.Tensor] = {}
    batch = collate([encode(vlm, sample, pictures) for sample in samples], pad_token(vlm), side)
    with capturing(vlm, layer, 3, rows.__setitem__) as capture:
        logits, labels = answer_logits(vlm, batch)
        torch.autograd.grad(experts.answer_nll(logits, labels).sum(), capture.leaf)
    assert sorted(capture.visits) == sorted(name for name, _ in lora_linears(vlm.layers[layer]))
    for place, sample in enumerate(samples):
        for name, alone in autograd_rows(vlm, layer, sample, pictures).items():
            assert alone.norm() > 0
            assert (rows[name][place] - alone).norm() <= 1e-5 * alone.norm(), (sample.source_id, name)


def test_nothing_below_the_layer_is_recorded(vlm: Vlm, samples: list[Sample], pictures: Pictures) -> None:  # noqa: F811
    recorded: list[bool] = []
    handle = vlm.layers[1].register_forward_hook(lambda _module, _args, output: recorded.append(output.requires_grad))
    with capturing(vlm, 2, 3, lambda _name, _gradient: None):
        answer_logits(vlm, collate([encode(vlm, samples[0], pictures)], pad_token(vlm)))
    handle.remove()
    assert recorded == [False]


def test_hooks_are_gone_afterwards(vlm: Vlm) -> None:
    with capturing(vlm, 2, 3, lambda _name, _gradient: None):
        assert vlm.layers[2]._forward_pre_hooks
    assert not vlm.layers[2]._forward_pre_hooks
    assert not any(linear._forward_hooks for _, linear in lora_linears(vlm.layers[2]))


def test_a_layer_without_lora_is_refused(vlm: Vlm) -> None:
    with pytest.raises(ValueError, match="no LoRA module"):
        lora_linears(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_dora_is_refused(vlm: Vlm) -> None:
    from peft import LoraConfig, get_peft_model

    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="cannot take per-sample gradients"):
        lora_linears(get_peft_model(model, LoraConfig(target_modules=["0"], use_dora=True)))

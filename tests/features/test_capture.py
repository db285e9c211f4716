"""Per-sample gradients of a batch equal those of autograd for each sample; what cannot be separated is refused."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapt_infinity.data.sample import IGNORED_LABEL
from adapt_infinity.features import scores
from adapt_infinity.features.capture import capturing, probed_linears, probed_weights
from adapt_infinity.model.checkpoint import Batch, Checkpoint, ModelParams, Vlm, answer_logits, load_vlm
from adapt_infinity.model.prompts import collate, pad_token
from tests.features.conftest import layer_of
from tests.model.conftest import LoraFactory, perturbed_and_frozen


def batched_gradients(vlm: Vlm, layers: Sequence[int], batch: Batch) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with capturing(vlm, layers, 3, found.__setitem__) as capture:
        logits, labels = answer_logits(vlm, batch)
        outputs = scores.Outputs(logits.detach(), labels, None, torch.zeros(len(labels)))
        capture.backward(logits, outputs.loss_gradient())
    return found


def autograd(vlm: Vlm, layers: Sequence[int], batch: Batch) -> dict[str, Tensor]:
    """The gradient of the batch's summed loss for each weight, from an ordinary backward pass."""
    weights = probed_weights(vlm, layers)
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        logits, labels = answer_logits(vlm, batch)
        losses = cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED_LABEL, reduction="none").sum(dim=1)
        means = losses / (labels != IGNORED_LABEL).sum(dim=1)
        found = torch.autograd.grad(means.sum(), list(weights.values()))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    return dict(zip(weights, found, strict=True))


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor], row: int = 0, error: float = 1e-5) -> None:
    assert sorted(found) == sorted(expected)
    for name, alone in expected.items():
        assert alone.norm() > 0, name
        assert (found[name][row].view_as(alone) - alone).norm() <= error * alone.norm(), name


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("layers", [(2,), (0, 1, 2, 3)])
def test_batched_rows_equal_autograd(vlm: Vlm, rows: list[Any], layers: tuple[int, ...], side: str) -> None:
    found = batched_gradients(vlm, layers, collate(rows, pad_token(vlm), side))
    assert {name.split(".")[0] for name in found} == {str(layer) for layer in layers}
    assert len(found) == 14 * len(layers)
    for place, row in enumerate(rows):
        require_equal(found, autograd(vlm, layers, collate([row], pad_token(vlm))), place)


def test_rows_add_up_to_the_gradient_of_the_summed_loss(vlm: Vlm, rows: list[Any]) -> None:
    batch = collate(rows, pad_token(vlm))
    found = batched_gradients(vlm, (1, 3), batch)
    require_equal(
        {name: gradient.sum(dim=0, keepdim=True) for name, gradient in found.items()}, autograd(vlm, (1, 3), batch)
    )


PLAIN: dict[str, dict[str, Any]] = {
    "rank one": {"r": 1},
    "high rank": {"r": 160},
    "rslora": {"use_rslora": True},
    "lora bias": {"lora_bias": True, "target_modules": r".*language_model\..*\.q_proj"},
    "few targets": {"target_modules": r".*language_model\.layers\.2\..*\.(v_proj|down_proj)"},
    "dropout that is off": {"lora_dropout": 0.5},
    "a linear map trained whole": {"modules_to_save": ["gate_proj"], "target_modules": r".*language_model\..*\.q_proj"},
}


@pytest.mark.filterwarnings("ignore:.*lora_bias")
@pytest.mark.parametrize("options", PLAIN.values(), ids=list(PLAIN))
def test_every_plain_lora_is_supported(with_lora: LoraFactory, rows: list[Any], options: dict[str, Any]) -> None:
    vlm = with_lora(**options)
    found = batched_gradients(vlm, (2,), collate(rows[3:6], pad_token(vlm)))
    require_equal(found, autograd(vlm, (2,), collate(rows[4:5], pad_token(vlm))), 1)
    assert ("2.self_attn.q_proj.lora_B.bias" in found) == bool(options.get("lora_bias"))
    assert ("2.mlp.gate_proj" in found) == ("modules_to_save" in options)


def test_of_two_adapters_the_active_one_is_probed(with_lora: LoraFactory, rows: list[Any]) -> None:
    vlm = with_lora(target_modules=r".*language_model\..*\.v_proj")
    vlm.model.add_adapter("second", LoraConfig(r=2, target_modules=r".*language_model\..*\.(q_proj|v_proj)"))
    vlm.model.set_adapter("second")
    perturbed_and_frozen(vlm)
    found = batched_gradients(vlm, (1,), collate(rows[:2], pad_token(vlm)))
    assert found["1.self_attn.v_proj.lora_A"].shape == (2, 2, 128)
    require_equal(found, autograd(vlm, (1,), collate(rows[:1], pad_token(vlm))))
    vlm.model.set_adapter("default")
    vlm.model.requires_grad_(False)
    found = batched_gradients(vlm, (1,), collate(rows[:2], pad_token(vlm)))
    assert sorted(found) == ["1.self_attn.v_proj.lora_A", "1.self_attn.v_proj.lora_B"]
    assert found["1.self_attn.v_proj.lora_A"].shape == (2, 4, 128)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_hooks_survive_gradient_checkpointing(with_lora: LoraFactory, rows: list[Any]) -> None:
    vlm = with_lora()
    batch = collate(rows[2:5], pad_token(vlm))
    plain = batched_gradients(vlm, (1, 2), batch)
    vlm.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    recomputed: list[int] = []
    for layer in map(partial(layer_of, vlm), range(4)):
        # checkpointing works in training mode only; the layers themselves have no dropout
        layer.training = True
        layer.mlp.register_forward_pre_hook(lambda _module, _args: recomputed.append(1))
    found = batched_gradients(vlm, (1, 2), batch)
    assert len(recomputed) > len(vlm.layers), "no layer was computed again, so this test shows nothing"
    assert all(torch.equal(found[name], gradient) for name, gradient in plain.items())
    vlm.base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ValueError, match=r"use_reentrant.*False"):
        batched_gradients(vlm, (1, 2), batch)


@pytest.mark.parametrize("layers", [(2,), (0, 1, 2, 3)])
def test_half_precision_keeps_the_direction(
    vlm: Vlm,
    with_lora: LoraFactory,
    base_model: Checkpoint,
    model_params: ModelParams,
    warm_adapter: Any,
    rows: list[Any],
    layers: Any,
) -> None:
    half = load_vlm(base_model, replace(model_params, dtype="bfloat16"), warm_adapter)
    found = batched_gradients(half, layers, collate(rows, pad_token(vlm)))
    whole = batched_gradients(vlm, layers, collate(rows, pad_token(vlm)))
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    for place in range(len(rows)):
        one, other = (torch.cat([made[name][place].flatten() for name in sorted(made)]) for made in (found, whole))
        assert torch.cosine_similarity(one, other, dim=0) >= 0.995


def test_autograd_records_nothing_below_the_lowest_layer(vlm: Vlm, rows: list[Any]) -> None:
    recorded: dict[int, bool] = {}
    handles = [
        layer.register_forward_hook(
            lambda _module, _args, out, number=number: recorded.update({number: out.requires_grad})
        )
        for number, layer in enumerate(vlm.layers)
    ]
    norms: list[bool] = []
    handles.append(
        layer_of(vlm, 2).input_layernorm.register_forward_hook(
            lambda _m, _args, output: norms.append(output.requires_grad)
        )
    )
    batched_gradients(vlm, (2, 3), collate(rows[:2], pad_token(vlm)))
    for handle in handles:
        handle.remove()
    assert recorded == {0: False, 1: False, 2: True, 3: True}
    assert norms == [False]


def test_hooks_are_gone_afterwards_even_after_an_error(vlm: Vlm) -> None:
    maps = probed_linears(vlm, (2,)).values()
    before = dict(layer_of(vlm, 3)._forward_hooks)  # transformers may have left one of its own
    with contextlib.suppress(RuntimeError), capturing(vlm, (2,), 3, lambda _name, _gradient: None):
        assert all(linear._forward_hooks for linear in maps)
        raise RuntimeError
    assert not any(layer._forward_pre_hooks for layer in vlm.layers)
    assert dict(layer_of(vlm, 3)._forward_hooks) == before
    assert not any(linear._forward_hooks for linear in maps)


# What is refused, each with an error of one line that says what to do instead.

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, r"2\.self_attn\.q_proj \(DoraLinearVariant\): train the adapter as plain LoRA"),
    "a norm trained whole": (
        {"modules_to_save": ["input_layernorm"]},
        r"2\.input_layernorm \(LlamaRMSNorm\) is trained whole.*leave it out of modules_to_save",
    ),
    "a block trained whole": (
        {"modules_to_save": ["mlp"], "target_modules": r".*language_model\..*\.q_proj"},
        r"2\.mlp \(LlamaMLP\) is trained whole",
    ),
    "biases of the base": ({"bias": "lora_only"}, r"trains biases of the base model.*bias='none'"),
    "no LoRA here": ({"target_modules": r".*language_model\.layers\.1\..*\.q_proj"}, r"layer 2 has no LoRA module"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=list(REFUSED))
def test_unsupported_adapters_are_refused(with_lora: LoraFactory, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        probed_linears(with_lora(**options), (2,))
    assert "\n" not in str(caught.value)


def in_layer(vlm: Vlm, holder: Any) -> Vlm:
    layer_of(vlm, 2).extra = holder.base_model.model
    return vlm


def test_any_other_class_of_lora_is_refused(with_lora: LoraFactory) -> None:
    """Quantised layers, embeddings and convolutions have their own classes; even a subclass may compute otherwise."""
    from peft.tuners.lora import Linear

    class Linear4bit(Linear):
        pass

    vlm = with_lora()
    layer_of(vlm, 2).mlp.up_proj.__class__ = Linear4bit
    with pytest.raises(ValueError, match=r"2\.mlp\.up_proj \(.*Linear4bit\): load the checkpoint unquantised"):
        probed_linears(vlm, (2,))
    for module in (nn.Embedding(4, 3), nn.Conv1d(3, 3, 1)):
        holder = get_peft_model(nn.Sequential(module), LoraConfig(r=2, target_modules=["0"]))
        with pytest.raises(ValueError, match=rf"2\.extra\.\S*0 \(peft.*{type(module).__name__}\)"):
            probed_linears(in_layer(with_lora(), holder), (2,))


def test_another_kind_of_adapter_is_refused(with_lora: LoraFactory) -> None:
    from peft import LoHaConfig

    holder = get_peft_model(nn.Sequential(nn.Linear(3, 3)), LoHaConfig(r=2, target_modules=["0"]))
    with pytest.raises(ValueError, match=r"2\.extra\.0 \(peft\.tuners\.loha"):
        probed_linears(in_layer(with_lora(), holder), (2,))


def test_a_variant_of_an_inactive_adapter_is_no_obstacle(with_lora: LoraFactory) -> None:
    vlm = with_lora(use_dora=True, target_modules=r".*language_model\..*\.v_proj")
    vlm.model.add_adapter("plain", LoraConfig(r=2, target_modules=r".*language_model\..*\.v_proj"))
    vlm.model.set_adapter("plain")
    assert len(probed_linears(vlm, (2,))) == 2


def test_merged_disabled_and_doubly_active_adapters_are_refused(with_lora: LoraFactory) -> None:
    vlm = with_lora(target_modules=r".*language_model\..*\.v_proj")
    with vlm.model.disable_adapter(), pytest.raises(ValueError, match=r"2\.self_attn\.v_proj is merged or disabled"):
        probed_linears(vlm, (2,))
    vlm.model.merge_adapter()
    with pytest.raises(ValueError, match="is merged or disabled: unmerge"):
        probed_linears(vlm, (2,))
    vlm.model.unmerge_adapter()
    vlm.model.add_adapter("second", LoraConfig(r=2, target_modules=r".*language_model\..*\.v_proj"))
    vlm.model.base_model.set_adapter(["default", "second"])
    with pytest.raises(ValueError, match=r"2\.self_attn\.v_proj has 2 active adapters"):
        probed_linears(vlm, (2,))


def test_shared_weights_are_refused(with_lora: LoraFactory) -> None:
    vlm = with_lora()
    layer_of(vlm, 3).mlp.up_proj.lora_A["default"].weight = layer_of(vlm, 2).mlp.up_proj.lora_A["default"].weight
    for layers in ((2,), (3,), (2, 3)):
        with pytest.raises(ValueError, match=r"\.mlp\.up_proj\.lora_A.* shares its weights"):
            probed_linears(vlm, layers)
    assert probed_linears(vlm, (1,))


def test_a_map_that_is_used_twice_is_refused(with_lora: LoraFactory, rows: list[Any]) -> None:
    vlm = with_lora()
    once = layer_of(vlm, 2).mlp.forward
    layer_of(vlm, 2).mlp.forward = lambda hidden: once(once(hidden))
    with pytest.raises(ValueError, match=r"2\.mlp\.gate_proj\.lora_A is used twice"):
        batched_gradients(vlm, (2,), collate(rows[:2], pad_token(vlm)))


def test_a_map_that_no_gradient_reaches_is_refused(with_lora: LoraFactory, rows: list[Any]) -> None:
    """For example, an expert of a mixture that no token was sent to: its gradient is unknown, and not taken as zero."""
    vlm = with_lora()
    whole = layer_of(vlm, 2).mlp.forward
    layer_of(vlm, 2).mlp.forward = lambda hidden: whole(hidden).detach()
    with pytest.raises(ValueError, match=r"no gradient arrived at 2\.mlp\.down_proj\.lora_A, .* and 3 more"):
        batched_gradients(vlm, (2,), collate(rows[:2], pad_token(vlm)))
    layer_of(vlm, 2).mlp.forward = lambda hidden: 0 * hidden
    with pytest.raises(ValueError, match=r"no gradient arrived at 2\.mlp\.down_proj\.lora_A"):
        batched_gradients(vlm, (2,), collate(rows[:2], pad_token(vlm)))


def test_flattened_inputs_are_refused(with_lora: LoraFactory, rows: list[Any]) -> None:
    """Experts of a mixture see the tokens of all samples together."""
    vlm = with_lora()
    whole = layer_of(vlm, 2).mlp.forward
    layer_of(vlm, 2).mlp.forward = lambda hidden: whole(hidden.flatten(0, 1)).view_as(hidden)
    with pytest.raises(ValueError, match=r"2\.mlp\.gate_proj\.lora_A gets inputs of shape \(\d+, 128\).*put no LoRA"):
        batched_gradients(vlm, (2,), collate(rows[:2], pad_token(vlm)))


def test_dropout_and_trainable_weights_are_refused(with_lora: LoraFactory) -> None:
    vlm = with_lora(lora_dropout=0.1)
    layer_of(vlm, 2).self_attn.q_proj.lora_dropout.train()
    with pytest.raises(ValueError, match=r"model\.eval\(\) after the adapter"), capturing(vlm, (2,), 3, print):
        pass
    vlm.model.train()
    with pytest.raises(ValueError, match=r"model\.eval\(\) after the adapter"), capturing(vlm, (2,), 3, print):
        pass
    vlm.model.eval()
    layer_of(vlm, 0).mlp.up_proj.base_layer.weight.requires_grad_(True)
    with pytest.raises(ValueError, match="frozen weights"), capturing(vlm, (2,), 3, print):
        pass


# Other model families: nothing in the capture depends on LLaVA.

TEXT: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}


def qwen2_vl() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    vision: dict[str, Any] = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2}
    tokens: dict[str, Any] = {
        "image_token_id": 60,
        "video_token_id": 61,
        "vision_start_token_id": 62,
        "vision_end_token_id": 63,
    }
    config = Qwen2VLConfig(text_config={**TEXT, "rope_parameters": rope}, vision_config=vision, **tokens)
    return Qwen2VLForConditionalGeneration(config)


def idefics3() -> Any:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 16, "patch_size": 4}
    whole: Any = Idefics3Config
    config = whole(
        text_config={"model_type": "llama", **TEXT},
        vision_config=vision,
        image_token_id=60,
        scale_factor=2,
        pad_token_id=0,
    )
    return Idefics3ForConditionalGeneration(config)


@pytest.mark.parametrize("make", [qwen2_vl, idefics3])
@pytest.mark.parametrize("side", ["right", "left"])
def test_other_model_families_are_supported(make: Callable[[], Any], side: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        targets = r".*(text_model|language_model)\.layers\..*\.(q_proj|v_proj|up_proj|down_proj)"
        model = get_peft_model(make(), LoraConfig(r=2, target_modules=targets))
    vlm = perturbed_and_frozen(Vlm(model, SimpleNamespace(), torch.device("cpu"), 64))
    generator = torch.Generator().manual_seed(1)
    lengths, longest = (9, 6, 4), 9
    words = [torch.randint(2, 50, (length,), generator=generator) for length in lengths]
    whole = Batch(
        torch.zeros(3, longest).long(), torch.zeros(3, longest).long(), torch.full((3, longest), IGNORED_LABEL), {}
    )
    for row, tokens in enumerate(words):
        here = slice(0, len(tokens)) if side == "right" else slice(longest - len(tokens), longest)
        whole.input_ids[row, here], whole.attention_mask[row, here] = tokens, 1
        whole.labels[row, here] = tokens.where(torch.arange(len(tokens)) >= 2, IGNORED_LABEL)
    found = batched_gradients(vlm, (0, 1, 2), whole)
    assert len(found) == 3 * 4 * 2
    for row, tokens in enumerate(words):
        labels = tokens.where(torch.arange(len(tokens)) >= 2, IGNORED_LABEL)
        alone = Batch(tokens[None], torch.ones(1, len(tokens)).long(), labels[None], {})
        require_equal(found, autograd(vlm, (0, 1, 2), alone), row, error=2e-5)

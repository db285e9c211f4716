"""Per-sample LoRA gradients of a whole batch, from one forward pass and the upper part of a backward pass.

For a linear map y = Wx the gradient of sample n is Σ_t g[n,t] x[n,t]ᵀ, where g is the gradient that arrives at y. The
loss is the *sum* of the samples' mean answer losses, so no entry of g mixes samples. PEFT's `lora_A` and `lora_B` are
plain linear maps, and g already includes the adapter's scaling.

All weights are frozen, so autograd records nothing before the first LoRA map of the lowest probed layer. The output of
that map is made a leaf: everything below runs without a graph, and the backward pass ends there. Only one module's
gradients, [batch, out, in], are in memory at a time. No module is skipped silently: what cannot be separated by sample
is refused with an error of one line.

If two conversations are packed into one row, the row has the gradient of both together: this file cannot notice it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn

from adapt_infinity.model.adapters.moe_lora import ROUTER
from adapt_infinity.model.checkpoint import Vlm

Visit = Callable[[str, Float[Tensor, "batch out inside"]], None]


@dataclass
class HiddenCapture:
    """What a forward pass leaves behind: the output of the embedding layer."""

    hidden: Float[Tensor, "batch time width"] = field(default_factory=lambda: torch.empty(0, 0, 0))


@dataclass
class Capture(HiddenCapture):
    """What the hooks of one forward pass leave behind. "Maps" are the linear modules of `probed_linears`, by name."""

    expected: frozenset[str] = frozenset()  # the maps whose gradient must be visited
    visited: list[str] = field(default_factory=list)  # the maps whose gradient was visited
    leaves: list[Tensor] = field(default_factory=list)  # where the backward pass ends
    called: set[str] = field(default_factory=set)  # the maps that the forward pass has called
    backward_has_begun: bool = False

    def backward(self, values: Float[Tensor, "batch ..."], arriving: Float[Tensor, "batch ..."]) -> None:
        """Visit every map's per-sample gradients. `arriving` is the gradient of the losses at `values`.

        `ValueError` when the backward pass does not reach a map: its gradient need not be zero.
        """
        if not self.leaves or not values.requires_grad:
            raise ValueError(
                "the loss does not depend on the probed layers through autograd: call the model's "
                'gradient_checkpointing_enable with gradient_checkpointing_kwargs={"use_reentrant": False}, '
                "or leave checkpointing off"
            )
        self.backward_has_begun = True
        torch.autograd.grad(values, self.leaves, arriving, allow_unused=True)
        missed = sorted(self.expected - set(self.visited))
        if missed:
            raise ValueError(f"no gradient arrived at {_first_three(missed)}: leave that layer out of probe.layers")


@contextmanager
def capturing_hidden(vlm: Vlm, layer: int) -> Iterator[HiddenCapture]:
    """While open, a forward pass stores the output of this decoder layer."""
    capture = HiddenCapture()
    handle = vlm.layers[layer].register_forward_hook(partial(_store_hidden, capture))
    try:
        yield capture
    finally:
        handle.remove()


@contextmanager
def capturing(vlm: Vlm, layers: Sequence[int], embedding_layer: int, visit: Visit) -> Iterator[Capture]:
    """While open, `capture.backward` after a forward pass calls `visit(name, per-sample gradients)` for each weight.

    Names are "<decoder layer>.<name within the layer>". The gradients of a matrix are [batch, out, in]; those of a bias
    are [batch, out, 1], under its map's name and ".bias". All are fp32. `ValueError` for a model in training mode or
    with trainable weights, and for modules that are not supported (see `probed_linears`).
    """
    maps = probed_linears(vlm, layers)
    _require_frozen_eval(vlm)
    capture = Capture(expected=frozenset(maps))
    handles = [vlm.layers[embedding_layer].register_forward_hook(partial(_store_hidden, capture))]
    for layer in vlm.layers[: min(layers) + 1]:
        handles.append(layer.register_forward_pre_hook(_detach_input, with_kwargs=True))
    for name, linear in maps.items():
        handles.append(linear.register_forward_hook(partial(_on_forward, name, capture, visit)))
    try:
        yield capture
    finally:
        for handle in handles:
            handle.remove()


def probed_linears(vlm: Vlm, layers: Sequence[int]) -> dict[str, nn.Linear]:
    """Every trained linear map of these decoder layers by name: `lora_A`, `lora_B`, and linear `modules_to_save`.

    `ValueError`, of one line and with the remedy: when a layer has none; when an adapter is not a plain LoRA of a
    linear module (DoRA and other variants, quantised modules, embeddings, convolutions, experts of a mixture); when
    anything else in the layer is trained; when a weight is used in two places.
    """
    if isinstance(vlm.model, PeftModel) and getattr(vlm.model.active_peft_config, "bias", "none") != "none":
        raise ValueError(
            "the adapter trains biases of the base model: train it with bias='none' (lora_bias is possible)"
        )
    maps: dict[str, nn.Linear] = {}
    for number in layers:
        trained = _trained_linears(vlm.layers[number], number)
        found = {f"{number}.{name}".rstrip("."): linear for name, linear in trained}
        if not found:
            raise ValueError(f"decoder layer {number} has no LoRA module: check probe.layers and model.adapter_targets")
        maps |= found
    uses = Counter(id(weight) for _, weight in vlm.model.named_parameters(remove_duplicate=False))
    shared = sorted(name for name, linear in maps.items() if any(uses[id(w)] > 1 for w in linear.parameters()))
    if shared:
        raise ValueError(
            f"{_first_three(shared)} shares its weights with another module: leave its layer out of probe.layers"
        )
    return maps


def probed_weights(vlm: Vlm, layers: Sequence[int]) -> dict[str, nn.Parameter]:
    """The weights and biases of `probed_linears`, under the names that `capturing` gives to `visit`."""
    weights: dict[str, nn.Parameter] = {}
    for name, linear in probed_linears(vlm, layers).items():
        for part, weight in linear.named_parameters():
            weights[name if part == "weight" else f"{name}.{part}"] = weight
    return weights


def _trained_linears(layer: nn.Module, number: int) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in layer.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield from _lora_linears(name, module, f"{number}.{name}")
        elif isinstance(module, AuxiliaryTrainingWrapper):
            yield from _saved_linear(name, module, f"{number}.{name}")


def _lora_linears(name: str, module: Any, full_name: str) -> Iterator[tuple[str, nn.Linear]]:
    """`lora_A`, `lora_B` and the router (of MoE-LoRA) of the active adapter; none if it is not on this module."""
    if type(module) is not LoraLinear:
        raise ValueError(
            f"the probe cannot take per-sample gradients of {full_name} ({type(module).__module__}."
            f"{type(module).__name__}): load the checkpoint unquantised and put plain LoRA on linear modules only"
        )
    active = [adapter for adapter in module.active_adapters if adapter in module.lora_A]
    if not active:
        return
    if len(active) > 1:
        raise ValueError(f"{full_name} has {len(active)} active adapters: activate one with model.set_adapter")
    if module.merged or module.disable_adapters:
        raise ValueError(f"the adapter of {full_name} is merged or disabled: unmerge and enable it before the probe")
    (adapter,) = active
    variant = module.lora_variant.get(adapter)
    if variant is not None or module.use_dora.get(adapter):
        kind = type(variant).__name__ if variant is not None else "DoRA"
        raise ValueError(
            f"the probe cannot take per-sample gradients of {full_name} ({kind}): train the adapter as plain LoRA"
        )
    for part in ("lora_A", "lora_B"):
        linear = getattr(module, part)[adapter]
        assert type(linear) is nn.Linear, "PEFT's plain LoRA of a linear map is made of linear maps"
        yield f"{name}.{part}", linear
    router = getattr(module, ROUTER, None)
    if router is not None:
        yield f"{name}.{ROUTER}", router


def _saved_linear(name: str, wrapper: Any, full_name: str) -> Iterator[tuple[str, nn.Linear]]:
    """The copy of a linear module of which PEFT trains all weights (`modules_to_save`)."""
    if isinstance(wrapper, ModulesToSaveWrapper):
        active = [adapter for adapter in wrapper.active_adapters if adapter in wrapper.modules_to_save]
        if not active:
            return
        linear = wrapper.modules_to_save[active[0]]
        if type(linear) is nn.Linear:
            yield name, linear
            return
    raise ValueError(
        f"{full_name} ({type(wrapper.original_module).__name__}) is trained whole, and the probe takes per-sample "
        "gradients of linear modules only: leave it out of modules_to_save, or its layer out of probe.layers"
    )


def _require_frozen_eval(vlm: Vlm) -> None:
    """With dropout, a row would depend on the batch; with trainable weights, autograd would record the lower layers."""
    dropouts = (module for module in vlm.model.modules() if isinstance(module, nn.Dropout) and module.p > 0)
    if vlm.model.training or any(module.training for module in dropouts):
        raise ValueError("the probe needs the model in eval mode: call model.eval() after the adapter is attached")
    if any(weight.requires_grad for weight in vlm.model.parameters()):
        raise ValueError("the probe needs frozen weights: call model.requires_grad_(False)")


def _detach_input(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Detach a layer's input: for gradient checkpointing, transformers starts a graph at the embeddings."""
    if args:
        return (args[0].detach(), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": kwargs["hidden_states"].detach()}


def _store_hidden(capture: HiddenCapture, _module: nn.Module, _args: Any, output: Any) -> None:
    capture.hidden = (output[0] if isinstance(output, tuple) else output).detach()


def _on_forward(
    name: str, capture: Capture, visit: Visit, linear: nn.Linear, args: tuple[Tensor, ...], output: Tensor
) -> None:
    """Forward hook: keep the map's inputs, and register `_on_backward` for the gradients that arrive at its outputs."""
    inputs = args[0].detach()
    if inputs.dim() != 3:
        raise ValueError(
            f"{name} gets inputs of shape {tuple(inputs.shape)}, in which samples are mixed (a mixture of experts?): "
            "put no LoRA on it, or leave its layer out of probe.layers"
        )
    begins_here = not output.requires_grad
    if begins_here:
        output.requires_grad_(True)
    if capture.backward_has_begun:  # gradient checkpointing computes the layer again
        return
    if name in capture.called:
        raise ValueError(f"{name} is used twice in one forward pass: leave its layer out of probe.layers")
    capture.called.add(name)
    if begins_here:
        capture.leaves.append(output)
    output.register_hook(partial(_on_backward, name, capture, visit, inputs, linear.bias is not None))


def _on_backward(
    name: str, capture: Capture, visit: Visit, inputs: Tensor, has_bias: bool, arriving: Float[Tensor, "batch time out"]
) -> None:
    """Tensor hook of the backward pass: visit Σ_t g[n,t] x[n,t]ᵀ, in fp32."""
    capture.visited.append(name)
    visit(name, torch.bmm(arriving.transpose(1, 2).float(), inputs.float()))
    if has_bias:
        visit(f"{name}.bias", arriving.sum(dim=1, dtype=torch.float32).unsqueeze(-1))


def _first_three(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

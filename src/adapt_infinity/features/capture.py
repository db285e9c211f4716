"""Per-sample LoRA gradients of a whole batch, from one forward pass and the upper part of a backward pass.

For a linear map y = Wx the gradient of sample n is Σ_t g[n,t] x[n,t]ᵀ, with g the gradient that arrives at y. The loss
is the *sum* of the samples' mean answer losses, so nothing in g mixes samples. PEFT's `lora_A` and `lora_B` are plain
linear maps and the adapter's scaling already sits in g.

Weights are frozen, so nothing is recorded until the first LoRA map of the lowest probed layer, whose output is made a
leaf: what lies below runs without a graph, and the backward pass ends there. One module's [batch, out, in] lives at a
time. A module is never skipped silently: what cannot be taken apart by sample is refused in one line.

Two conversations packed into one row cannot be told from one: the row's gradient is then that of both together.
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
class CapturedInputs:
    """What a forward pass leaves behind: the embedding layer's output."""

    hidden: Float[Tensor, "batch time width"] = field(default_factory=lambda: torch.empty(0, 0, 0))


@dataclass
class Capture(CapturedInputs):
    """What the hooks of one forward pass leave behind."""

    wanted: frozenset[str] = frozenset()  # every map that must be visited
    visits: list[str] = field(default_factory=list)  # maps whose gradient was seen
    leaves: list[Tensor] = field(default_factory=list)  # where the backward pass ends
    called: set[str] = field(default_factory=set)  # maps that the forward pass came through
    turned: bool = False  # the backward pass has begun

    def backward(self, values: Float[Tensor, "batch ..."], arriving: Float[Tensor, "batch ..."]) -> None:
        """Visit every map's per-sample gradient of losses whose gradient at `values` is `arriving`.

        `ValueError` when a map was not reached: its gradient is not known to be zero.
        """
        if not self.leaves or not values.requires_grad:
            raise ValueError(
                "the loss does not depend on the probed layers through autograd: call the model's "
                'gradient_checkpointing_enable with gradient_checkpointing_kwargs={"use_reentrant": False}, '
                "or leave checkpointing off"
            )
        self.turned = True
        torch.autograd.grad(values, self.leaves, arriving, allow_unused=True)
        missed = sorted(self.wanted - set(self.visits))
        if missed:
            raise ValueError(f"no gradient arrived at {_few(missed)}: leave that layer out of probe.layers")


@contextmanager
def capturing_hidden(vlm: Vlm, layer: int) -> Iterator[CapturedInputs]:
    """While open, a forward pass leaves the output of this decoder layer behind."""
    kept = CapturedInputs()
    handle = vlm.layers[layer].register_forward_hook(partial(_keep_hidden, kept))
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def capturing(vlm: Vlm, layers: Sequence[int], embedding_layer: int, visit: Visit) -> Iterator[Capture]:
    """While open, `capture.backward` after a forward pass calls `visit(name, per-sample gradient)` for each weight.

    Names are "<decoder layer>.<name within the layer>"; a bias has its map's name and ".bias", and its gradient
    [batch, out, 1]. fp32 throughout. `ValueError`: see `probed_linears`.
    """
    maps = probed_linears(vlm, layers)
    _require_still(vlm)
    capture = Capture(wanted=frozenset(maps))
    handles = [vlm.layers[embedding_layer].register_forward_hook(partial(_keep_hidden, capture))]
    for layer in vlm.layers[: min(layers) + 1]:
        handles.append(layer.register_forward_pre_hook(_cut_off, with_kwargs=True))
    for name, linear in maps.items():
        handles.append(linear.register_forward_hook(partial(_watch, name, capture, visit)))
    try:
        yield capture
    finally:
        for handle in handles:
            handle.remove()


def probed_linears(vlm: Vlm, layers: Sequence[int]) -> dict[str, nn.Linear]:
    """Every trained linear map of these decoder layers: `lora_A`, `lora_B`, and linear `modules_to_save`.

    `ValueError`, in one line with the remedy, when a layer has none, when an adapter is not plain LoRA of a linear map
    (DoRA and other variants, quantised, embeddings, convolutions, experts), when anything else in the layer is trained,
    or when a weight is used in two places.
    """
    if isinstance(vlm.model, PeftModel) and getattr(vlm.model.active_peft_config, "bias", "none") != "none":
        raise ValueError(
            "the adapter trains biases of the base model: train it with bias='none' (lora_bias is possible)"
        )
    maps: dict[str, nn.Linear] = {}
    for number in layers:
        found = {f"{number}.{name}".rstrip("."): linear for name, linear in _trained(vlm.layers[number], number)}
        if not found:
            raise ValueError(f"decoder layer {number} has no LoRA module: check probe.layers and model.adapter_targets")
        maps |= found
    places = Counter(id(weight) for _, weight in vlm.model.named_parameters(remove_duplicate=False))
    shared = sorted(name for name, linear in maps.items() if any(places[id(w)] > 1 for w in linear.parameters()))
    if shared:
        raise ValueError(f"{_few(shared)} shares its weights with another module: leave its layer out of probe.layers")
    return maps


def probed_weights(vlm: Vlm, layers: Sequence[int]) -> dict[str, nn.Parameter]:
    """The weights and biases of `probed_linears`, under the names that `visit` sees."""
    weights: dict[str, nn.Parameter] = {}
    for name, linear in probed_linears(vlm, layers).items():
        for part, weight in linear.named_parameters():
            weights[name if part == "weight" else f"{name}.{part}"] = weight
    return weights


def _trained(layer: nn.Module, number: int) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in layer.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield from _lora_maps(name, module, f"{number}.{name}")
        elif isinstance(module, AuxiliaryTrainingWrapper):
            yield from _saved_map(name, module, f"{number}.{name}")


def _lora_maps(name: str, module: Any, full_name: str) -> Iterator[tuple[str, nn.Linear]]:
    """`lora_A`, `lora_B` and router of the one active adapter (none, where that adapter is not on this module)."""
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


def _saved_map(name: str, wrapper: Any, full_name: str) -> Iterator[tuple[str, nn.Linear]]:
    """The copy of a linear module that is trained whole."""
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
        "gradients of linear maps only: leave it out of modules_to_save, or its layer out of probe.layers"
    )


def _require_still(vlm: Vlm) -> None:
    """Dropout would make a row depend on the batch, and trainable weights a graph of what lies below."""
    dropping = (module for module in vlm.model.modules() if isinstance(module, nn.Dropout) and module.p > 0)
    if vlm.model.training or any(module.training for module in dropping):
        raise ValueError("the probe needs the model in eval mode: call model.eval() after the adapter is attached")
    if any(weight.requires_grad for weight in vlm.model.parameters()):
        raise ValueError("the probe needs frozen weights: call model.requires_grad_(False)")


def _cut_off(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Take a layer's input out of the graph that transformers begins at the embeddings for gradient checkpointing."""
    if args:
        return (args[0].detach(), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": kwargs["hidden_states"].detach()}


def _keep_hidden(kept: CapturedInputs, _module: nn.Module, _args: Any, output: Any) -> None:
    kept.hidden = (output[0] if isinstance(output, tuple) else output).detach()


def _watch(
    name: str, capture: Capture, visit: Visit, linear: nn.Linear, args: tuple[Tensor, ...], output: Tensor
) -> None:
    """On the forward pass: keep this map's inputs for the gradients that will arrive at its outputs."""
    inputs = args[0].detach()
    if inputs.dim() != 3:
        raise ValueError(
            f"{name} sees inputs of shape {tuple(inputs.shape)}, in which samples cannot be told apart (experts?): "
            "put no LoRA on it, or leave its layer out of probe.layers"
        )
    begins_here = not output.requires_grad
    if begins_here:
        output.requires_grad_(True)
    if capture.turned:  # gradient checkpointing computes a layer again: the first pass is watched already
        return
    if name in capture.called:
        raise ValueError(f"{name} is used twice in one forward pass: leave its layer out of probe.layers")
    capture.called.add(name)
    if begins_here:
        capture.leaves.append(output)
    output.register_hook(partial(_contract, name, capture, visit, inputs, linear.bias is not None))


def _contract(
    name: str, capture: Capture, visit: Visit, inputs: Tensor, has_bias: bool, arriving: Float[Tensor, "batch time out"]
) -> None:
    """On the backward pass: Σ_t g[n,t] x[n,t]ᵀ, in fp32."""
    capture.visits.append(name)
    visit(name, torch.bmm(arriving.transpose(1, 2).float(), inputs.float()))
    if has_bias:
        visit(f"{name}.bias", arriving.sum(dim=1, dtype=torch.float32).unsqueeze(-1))


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

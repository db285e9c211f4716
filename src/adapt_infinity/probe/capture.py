"""Per-sample LoRA gradients of a whole batch, from one forward and half a backward pass.

For a linear map y = Wx the gradient of sample n is Σ_t g[n,t] x[n,t]ᵀ, with g the gradient that arrives at y. The loss
is the *sum* of the samples' mean answer losses, so nothing in g mixes samples. PEFT's `lora_A` and `lora_B` are plain
linear maps and the adapter's scaling already sits in g.

Only the probed layer is opened to autograd: its input is cut off and made a leaf, so that everything below runs
without a graph and the backward pass ends there. One module's [batch, out, in] lives at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from adapt_infinity.model import Vlm

Visit = Callable[[str, Float[Tensor, "batch out inside"]], None]


@dataclass
class Capture:
    """What the hooks of one forward pass leave behind."""

    leaf: Tensor = field(default_factory=lambda: torch.empty(0))  # the probed layer's input
    hidden: Tensor | None = None  # the embedding layer's output
    visits: list[str] = field(default_factory=list)  # modules whose gradient was seen


@contextmanager
def capturing(vlm: Vlm, layer: int, embedding_layer: int, visit: Visit) -> Iterator[Capture]:
    """While open, a backward pass from `capture.leaf` calls `visit(module name, per-sample gradient)` per module.

    `ValueError` when the layer has no LoRA module, or one of a kind that is not a plain linear map: a module is never
    skipped silently.
    """
    capture = Capture()
    probed = vlm.layers[layer]
    handles = [
        probed.register_forward_pre_hook(_cut_off(capture), with_kwargs=True),
        vlm.layers[embedding_layer].register_forward_hook(_keep_hidden(capture)),
    ]
    for name, module in lora_linears(probed):
        handles.append(module.register_forward_hook(_watch(name, capture, visit)))
    try:
        yield capture
    finally:
        for handle in handles:
            handle.remove()


def lora_linears(layer: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The `lora_A` and `lora_B` maps of a decoder layer, by name within the layer."""
    found: list[tuple[str, nn.Linear]] = []
    for name, module in layer.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        if not isinstance(module, LoraLinear) or any(module.use_dora.values()):
            raise ValueError(f"the probe cannot take per-sample gradients of {name} ({type(module).__name__})")
        for part, maps in (("lora_A", module.lora_A), ("lora_B", module.lora_B)):
            for linear in maps.values():
                assert isinstance(linear, nn.Linear), "PEFT's LoRA of a linear map is made of linear maps"
                found.append((f"{name}.{part}", linear))
    if not found:
        raise ValueError("the probed layer has no LoRA module: check probe.layer and model.adapter_targets")
    return found


def _cut_off(capture: Capture) -> Callable[..., Any]:
    """Make the layer's input a leaf; everything below is then outside the graph."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        given = args[0] if args else kwargs["hidden_states"]
        capture.leaf = given.detach().requires_grad_(True)
        if args:
            return (capture.leaf, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": capture.leaf}

    return hook


def _keep_hidden(capture: Capture) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        capture.hidden = hidden.detach()

    return hook


def _watch(name: str, capture: Capture, visit: Visit) -> Callable[..., None]:
    """On the backward pass, contract this map's inputs with the gradients that arrive at its outputs."""

    def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs = args[0].detach()
        if inputs.dim() != 3:
            raise ValueError(f"{name} sees inputs of shape {tuple(inputs.shape)}; the probe needs [batch, time, width]")

        def contract(arriving: Tensor) -> None:
            capture.visits.append(name)
            visit(name, torch.bmm(arriving.transpose(1, 2).float(), inputs.float()))

        output.register_hook(contract)

    return hook

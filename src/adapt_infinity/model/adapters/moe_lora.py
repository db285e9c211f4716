"""MoE-LoRA: a LoRA that is split into experts, with routers (CoIN, Chen et al. 2024, arXiv:2403.08350).

Rank r is split into E experts of rank r / E. Each adapted module has a router, which is a linear map of the token's
input x followed by a softmax over the experts:

    Σ_i gate_i(x) B_i A_i x, times LoRA's scaling

This is an ordinary LoRA whose r intermediate values are multiplied, block by block, by the gates. Routers start at 0
and B starts at E times its value: every gate is then 1/E, so that the split does not change the function.

"Expert" in this file means an expert of the mixture, as in the paper; it has nothing to do with selector experts.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

ROUTER = "expert_router"


def split_into_experts(model: Any, experts: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`adapter_type` and extra tensors of the plain LoRA on `model`, split into experts. Scales its B in place.

    `ValueError` when `experts` does not divide the rank.
    """
    extra_tensors = {}
    for path, module in _lora_modules(model):
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        if len(a) % experts:
            raise ValueError(f"methods.moe_lora.experts must divide the adapter's rank {len(a)}, got {experts}")
        b.data.mul_(experts)
        extra_tensors[f"{path}.{ROUTER}.weight"] = a.new_zeros(experts, a.shape[1])
    return {"kind": "moe_lora", "experts": experts}, extra_tensors


def attach(
    model: Any, adapter_type: Mapping[str, Any], extra_tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Put a router on every adapted module. Returns the routers' weights; no weight of the base model is replaced."""
    live: dict[str, Tensor] = {}
    for path, module in _lora_modules(model):
        name, a = f"{path}.{ROUTER}.weight", module.lora_A["default"].weight
        shape = (a.shape[1], adapter_type["experts"])
        router = nn.utils.skip_init(nn.Linear, *shape, bias=False, device=a.device, dtype=a.dtype)
        router.weight.data.copy_(extra_tensors[name])
        module.add_module(ROUTER, router)
        inputs: list[Tensor] = []
        module.lora_A["default"].register_forward_pre_hook(partial(_store_input, inputs))
        module.lora_B["default"].register_forward_pre_hook(partial(_apply_gates, inputs, router))
        live[name] = router.weight
    return live, {}


def trainable_weights(model: Any, adapter_type: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """LoRA's matrices and the routers."""
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name or ROUTER in name}


def _lora_modules(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name.removeprefix("base_model.model."), module


def _store_input(inputs: list[Tensor], _a: nn.Module, args: tuple[Tensor, ...]) -> None:
    inputs[:] = args


def _apply_gates(
    inputs: list[Tensor], router: nn.Module, _b: nn.Module, args: tuple[Float[Tensor, "*tokens rank"], ...]
) -> tuple[Float[Tensor, "*tokens rank"]]:
    """Multiply B's input by the gates. A's output stays as it is, so that the probe sees both maps as plain linear."""
    gates = torch.softmax(router(inputs.pop()), dim=-1)
    return (args[0] * gates.repeat_interleave(args[0].shape[-1] // gates.shape[-1], dim=-1),)

"""A LoRA of experts (CoIN, Chen et al. 2024, arXiv:2403.08350): rank r is cut into E experts of rank r / E, and each
adapted map has a router, a softmax over the experts of a linear map of the token's input x:

    Σ_i gate_i(x) B_i A_i x, times LoRA's scaling

It is an ordinary LoRA whose rank-wide middle is multiplied, block by block, by the gates. The routers begin at 0 and
B at E times what it was: every gate is 1/E, and the function is what it was.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

ROUTER = "expert_router"


def begin(model: Any, experts: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Form and extras of a plain LoRA that is cut into experts; scales its B in place. `ValueError`: rank % experts."""
    extras = {}
    for path, module in _maps(model):
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        if len(a) % experts:
            raise ValueError(f"methods.moe_lora.experts must divide the adapter's rank {len(a)}, got {experts}")
        b.data.mul_(experts)
        extras[f"{path}.{ROUTER}.weight"] = a.new_zeros(experts, a.shape[1])
    return {"kind": "moe_lora", "experts": experts}, extras


def attach(
    model: Any, form: Mapping[str, Any], extras: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Routers on every adapted map."""
    live: dict[str, Tensor] = {}
    for path, module in _maps(model):
        name, a = f"{path}.{ROUTER}.weight", module.lora_A["default"].weight
        router = nn.utils.skip_init(nn.Linear, a.shape[1], form["experts"], bias=False, device=a.device, dtype=a.dtype)
        router.weight.data.copy_(extras[name])
        module.add_module(ROUTER, router)
        seen: list[Tensor] = []
        module.lora_A["default"].register_forward_pre_hook(partial(_look, seen))
        module.lora_B["default"].register_forward_pre_hook(partial(_gate, seen, router))
        live[name] = router.weight
    return live, {}


def trained(model: Any, form: Mapping[str, Any]) -> dict[str, nn.Parameter]:
    """LoRA's maps and the routers."""
    return {name: weight for name, weight in model.named_parameters() if "lora_" in name or ROUTER in name}


def _maps(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield name.removeprefix("base_model.model."), module


def _look(seen: list[Tensor], _a: nn.Module, args: tuple[Tensor, ...]) -> None:
    seen[:] = args


def _gate(
    seen: list[Tensor], router: nn.Module, _b: nn.Module, args: tuple[Float[Tensor, "*tokens rank"], ...]
) -> tuple[Float[Tensor, "*tokens rank"]]:
    """On the way from A to B, so that a probe sees A's own output and what B really reads."""
    gates = torch.softmax(router(seen.pop()), dim=-1)
    return (args[0] * gates.repeat_interleave(args[0].shape[-1] // gates.shape[-1], dim=-1),)

"""An adapter apart from any model (LoRA, Hu et al. 2021, arXiv:2106.09685): its weights, its name, its folder on disk.

Ranks of earlier rounds may rest while later ones learn; then both stand side by side in one adapter, and are split
where it is put on a model (see `model.attach`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

ADAPTER_KEYS = ("r", "lora_alpha", "target_modules", "lora_dropout", "bias", "use_rslora")
PEFT_NAMES = ("adapter_config.json", "adapter_model.safetensors")
OWN_NAMES = ("lora_config.json", "lora.safetensors")  # no PEFT reader takes the LoRA of another form for the whole


@dataclass(frozen=True)
class Adapter:
    """LoRA weights apart from any model: PEFT's config, its tensors, and how they came to be."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    record: Mapping[str, Any]  # round, adapter policy, optimiser steps
    moments: Mapping[str, Tensor] = field(default_factory=dict)  # Adam's, of the last training, by weight
    frozen_rank: int = 0  # the first so many ranks are merged into the base where the adapter is put on, and rest
    adapter_type: Mapping[str, Any] = field(
        default_factory=dict
    )  # what it is beside LoRA, see `adapters/`; empty for LoRA
    extras: Mapping[str, Tensor] = field(default_factory=dict)  # the form's tensors

    @property
    def numbers(self) -> int:
        """How many it adds to the base model."""
        return sum(tensor.numel() for part in (self.tensors, self.extras) for tensor in part.values())


FIRST, SECOND = "exp_avg", "exp_avg_sq"  # Adam's moments, under torch's names, behind the weight's: "….weight.exp_avg"


def split(adapter: Adapter) -> tuple[dict[str, Tensor], Adapter]:
    """The ranks that rest (empty where none do), and an adapter of those that learn."""
    rest, rank = adapter.frozen_rank, adapter.config["r"]
    if not rest:
        return {}, adapter
    frozen = {name: tensor.narrow(_rank_side(name), 0, rest) for name, tensor in adapter.tensors.items()}
    live = {name: tensor.narrow(_rank_side(name), rest, rank - rest) for name, tensor in adapter.tensors.items()}
    tensors = {name: part.contiguous() for name, part in live.items()}
    return frozen, Adapter(_of_rank(adapter.config, rank - rest), tensors, adapter.record, adapter.moments)


def join(frozen: Mapping[str, Tensor], live: Adapter) -> Adapter:
    """One adapter of both, resting ranks first. Any PEFT reader gets the whole function out of it."""
    if not frozen:
        return live
    rest = next(tensor.shape[_rank_side(name)] for name, tensor in frozen.items())
    tensors = {name: torch.cat([frozen[name], live.tensors[name]], _rank_side(name)) for name in live.tensors}
    return Adapter(_of_rank(live.config, rest + live.config["r"]), tensors, live.record, live.moments, rest)


def scaling(config: Mapping[str, Any]) -> float:
    """By which the product B A counts."""
    rank = config["r"]
    return float(config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank))


def read_adapter(path: Path) -> Adapter:
    """An adapter folder in PEFT's layout; `record.json` and `moments.safetensors` are ours, and may be absent.

    Of another form than LoRA, config and weights have `OWN_NAMES`, and `extras.safetensors` is there.
    """
    names = OWN_NAMES if (path / OWN_NAMES[0]).is_file() else PEFT_NAMES
    if not (path / names[0]).is_file():
        raise FileNotFoundError(f"there is no adapter in {path} (no {names[0]})")
    config = json.loads((path / names[0]).read_text())
    record, moments, extras = path / "record.json", path / "moments.safetensors", path / "extras.safetensors"
    known: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {"steps": 0, "rounds": []}
    return Adapter(
        config={name: config[name] for name in ADAPTER_KEYS},
        tensors=load_file(path / names[1]),
        frozen_rank=known.pop("frozen_rank", 0),
        adapter_type=known.pop("form", {}),
        record=known,
        moments=load_file(moments) if moments.exists() else {},
        extras=load_file(extras) if extras.exists() else {},
    )


def write_adapter(adapter: Adapter, path: Path) -> None:
    """Make an adapter folder; of plain LoRA, one that `PeftModel.from_pretrained` reads."""
    path.mkdir()
    LoraConfig(**adapter.config, inference_mode=True).save_pretrained(str(path))
    save_file(dict(adapter.tensors), path / PEFT_NAMES[1])
    if adapter.moments:
        save_file(dict(adapter.moments), path / "moments.safetensors")
    record = {**adapter.record, "frozen_rank": adapter.frozen_rank}
    if adapter.adapter_type:
        for name, own in zip(PEFT_NAMES, OWN_NAMES, strict=True):
            (path / name).rename(path / own)
        save_file(dict(adapter.extras), path / "extras.safetensors")
        record["form"] = dict(adapter.adapter_type)
    (path / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True))


def adapter_digest(adapter: Adapter) -> str:
    """16 digits that name an adapter: its weights, moments, form and config, not how it came to be."""
    form = {**adapter.config, **({"frozen_rank": adapter.frozen_rank} if adapter.frozen_rank else {})}
    form |= {"form": dict(adapter.adapter_type)} if adapter.adapter_type else {}
    digest = hashlib.blake2b(json.dumps(form, sort_keys=True).encode(), digest_size=8)
    for part in (adapter.tensors, adapter.moments, adapter.extras):
        for name, tensor in sorted(part.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _of_rank(config: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """The config of another rank under which a rank counts for as much as before."""
    alpha = scaling(config) * (rank**0.5 if config["use_rslora"] else rank)
    return {**config, "r": rank, "lora_alpha": round(alpha) if abs(alpha - round(alpha)) < 1e-9 else alpha}


def _rank_side(name: str) -> int:
    """The dimension of a LoRA tensor that runs over its ranks."""
    return 0 if ".lora_A." in name else 1

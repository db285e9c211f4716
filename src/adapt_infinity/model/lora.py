"""An adapter apart from any model (LoRA, Hu et al. 2021, arXiv:2106.09685): weights, digest, folder on disk.

Ranks of earlier rounds may be frozen while later ones are trained. One adapter then holds both, and they are separated
when the adapter is put on a model (see `checkpoint.attach`).
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

CONFIG_KEYS = ("r", "lora_alpha", "target_modules", "lora_dropout", "bias", "use_rslora")
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
# Files of the LoRA of another adapter type. PEFT must not find them: it would take the LoRA for the whole adapter.
OTHER_TYPE_FILES = ("lora_config.json", "lora.safetensors")
# torch's names of Adam's moments; in `Adapter.moments` they follow the weight's name: "….weight.exp_avg"
FIRST_MOMENT, SECOND_MOMENT = "exp_avg", "exp_avg_sq"


@dataclass(frozen=True)
class Adapter:
    """Weights apart from any model: PEFT's config, its tensors, and how they came to be."""

    config: Mapping[str, Any]  # the entries `CONFIG_KEYS` of PEFT's LoraConfig
    tensors: Mapping[str, Tensor]  # LoRA's, under PEFT's names
    record: Mapping[str, Any]  # rounds, adapter policy, optimiser steps
    moments: Mapping[str, Tensor] = field(default_factory=dict)  # Adam's, of the last training, by weight
    frozen_rank: int = 0  # so many first ranks are not trained: on a model they are merged into the base weights
    adapter_type: Mapping[str, Any] = field(default_factory=dict)  # see `adapters/`; empty for plain LoRA
    extra_tensors: Mapping[str, Tensor] = field(default_factory=dict)  # those that the adapter type adds to LoRA's

    @property
    def parameter_count(self) -> int:
        """How many parameters the adapter adds to the base model."""
        return sum(tensor.numel() for group in (self.tensors, self.extra_tensors) for tensor in group.values())


def split_ranks(adapter: Adapter) -> tuple[dict[str, Tensor], Adapter]:
    """The tensors of the frozen ranks (empty when there are none), and an adapter of the other ranks."""
    frozen_rank, rank = adapter.frozen_rank, adapter.config["r"]
    if not frozen_rank:
        return {}, adapter
    count = rank - frozen_rank
    frozen = {name: tensor.narrow(_rank_dim(name), 0, frozen_rank) for name, tensor in adapter.tensors.items()}
    live = {name: tensor.narrow(_rank_dim(name), frozen_rank, count) for name, tensor in adapter.tensors.items()}
    tensors = {name: tensor.contiguous() for name, tensor in live.items()}
    return frozen, Adapter(_with_rank(adapter.config, count), tensors, adapter.record, adapter.moments)


def join_ranks(frozen: Mapping[str, Tensor], live: Adapter) -> Adapter:
    """One adapter of both, frozen ranks first. Any PEFT reader that loads it computes the whole function."""
    if not frozen:
        return live
    frozen_rank = next(tensor.shape[_rank_dim(name)] for name, tensor in frozen.items())
    tensors = {name: torch.cat([frozen[name], live.tensors[name]], _rank_dim(name)) for name in live.tensors}
    config = _with_rank(live.config, frozen_rank + live.config["r"])
    return Adapter(config, tensors, live.record, live.moments, frozen_rank)


def scaling(config: Mapping[str, Any]) -> float:
    """The factor of the product B A."""
    rank = config["r"]
    return float(config["lora_alpha"] / (rank**0.5 if config["use_rslora"] else rank))


def read_adapter(path: Path) -> Adapter:
    """Read an adapter folder in PEFT's layout. `record.json` and `moments.safetensors` are ours, and may be missing.

    The folder of another adapter type than plain LoRA has `OTHER_TYPE_FILES` in place of PEFT's, and
    `extras.safetensors`. `FileNotFoundError` when there is no adapter; `ValueError` when a folder of another adapter
    type does not say which.
    """
    plain = not (path / OTHER_TYPE_FILES[0]).is_file()
    config_file, tensor_file = PEFT_FILES if plain else OTHER_TYPE_FILES
    if not (path / config_file).is_file():
        raise FileNotFoundError(f"there is no adapter in {path} (no {config_file})")
    config = json.loads((path / config_file).read_text())
    record_file, moments, extra = path / "record.json", path / "moments.safetensors", path / "extras.safetensors"
    record: dict[str, Any] = json.loads(record_file.read_text()) if record_file.exists() else {"steps": 0, "rounds": []}
    if not plain and "adapter_type" not in record:
        raise ValueError(f"{record_file} has no adapter_type (an earlier version wrote it): train the adapter again")
    return Adapter(
        config={name: config[name] for name in CONFIG_KEYS},
        tensors=load_file(path / tensor_file),
        frozen_rank=record.pop("frozen_rank", 0),
        adapter_type=record.pop("adapter_type", {}),
        record=record,
        moments=load_file(moments) if moments.exists() else {},
        extra_tensors=load_file(extra) if extra.exists() else {},
    )


def write_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter folder, which must not exist. `PeftModel.from_pretrained` reads that of a plain LoRA."""
    path.mkdir()
    LoraConfig(**adapter.config, inference_mode=True).save_pretrained(str(path))
    save_file(dict(adapter.tensors), path / PEFT_FILES[1])
    if adapter.moments:
        save_file(dict(adapter.moments), path / "moments.safetensors")
    record = {**adapter.record, "frozen_rank": adapter.frozen_rank}
    if adapter.adapter_type:
        for name, other_name in zip(PEFT_FILES, OTHER_TYPE_FILES, strict=True):
            (path / name).rename(path / other_name)
        save_file(dict(adapter.extra_tensors), path / "extras.safetensors")
        record["adapter_type"] = dict(adapter.adapter_type)
    (path / "record.json").write_text(json.dumps(record, indent=1, sort_keys=True))


def adapter_digest(adapter: Adapter) -> str:
    """16 hexadecimal digits that identify an adapter: weights, moments, adapter type and config, but not its record."""
    shape = {**adapter.config, **({"frozen_rank": adapter.frozen_rank} if adapter.frozen_rank else {})}
    shape |= {"adapter_type": dict(adapter.adapter_type)} if adapter.adapter_type else {}
    digest = hashlib.blake2b(json.dumps(shape, sort_keys=True).encode(), digest_size=8)
    for group in (adapter.tensors, adapter.moments, adapter.extra_tensors):
        for name, tensor in sorted(group.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _with_rank(config: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """The config with another rank, and with the alpha that keeps the scaling of B A."""
    alpha = scaling(config) * (rank**0.5 if config["use_rslora"] else rank)
    return {**config, "r": rank, "lora_alpha": round(alpha) if abs(alpha - round(alpha)) < 1e-9 else alpha}


def _rank_dim(name: str) -> int:
    """The dimension of a LoRA tensor whose size is the rank."""
    return 0 if ".lora_A." in name else 1

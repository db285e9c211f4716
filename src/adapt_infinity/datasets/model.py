"""Checkpoints and adapters on disk. A live model never enters the catalog: nodes are given the means to load one."""

import json
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.model import ADAPTER_KEYS, Adapter, Checkpoint


class CheckpointDataset(AbstractDataset[Any, Checkpoint]):
    """Where the base model is: `filepath` = a folder in Hugging Face's layout, or `hub` = a name on its hub."""

    def __init__(
        self, *, filepath: str | None = None, hub: str | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        if (filepath is None) == (hub is None):
            raise ValueError("base_model needs either filepath (a checkpoint folder) or hub (a name on the hub)")
        self._filepath = None if filepath is None else Path(filepath)
        self._hub = hub
        self.metadata = metadata

    def load(self) -> Checkpoint:
        if self._hub is not None:
            return Checkpoint(self._hub)
        assert self._filepath is not None
        if not (self._filepath / "config.json").is_file():
            raise FileNotFoundError(f"there is no checkpoint in {self._filepath} (no config.json)")
        return Checkpoint(self._filepath)

    def save(self, data: Any) -> None:
        raise NotImplementedError("a base model is given, not made, by a round")

    def _exists(self) -> bool:
        return self._hub is not None or (self._filepath is not None and self._filepath.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "hub": self._hub}


class AdapterDataset(AtomicDataset):
    """A PEFT adapter folder: what `PeftModel.from_pretrained` reads, plus `record.json` with its history."""

    def read(self, path: Path) -> Adapter:
        from safetensors.torch import load_file

        config = json.loads((path / "adapter_config.json").read_text())
        return Adapter(
            config={name: config[name] for name in ADAPTER_KEYS},
            tensors=load_file(path / "adapter_model.safetensors"),
            record=json.loads((path / "record.json").read_text()),
        )

    def write(self, data: Adapter, path: Path) -> None:
        from peft import LoraConfig
        from safetensors.torch import save_file

        path.mkdir()
        LoraConfig(**data.config, inference_mode=True).save_pretrained(str(path))
        save_file(dict(data.tensors), path / "adapter_model.safetensors")
        (path / "record.json").write_text(json.dumps(dict(data.record), indent=1, sort_keys=True))

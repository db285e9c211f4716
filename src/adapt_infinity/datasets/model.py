"""Base checkpoints, adapters and the state of training methods. Nodes load the model itself where they need it."""

from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.model.checkpoint import Checkpoint
from adapt_infinity.model.lora import Adapter, read_adapter, write_adapter
from adapt_infinity.training.method_state import MethodState, read_state, write_state


class CheckpointDataset(AbstractDataset[Any, Checkpoint]):
    """The place of the base model: `filepath` (a folder that transformers can load) or `hub` (a Hugging Face name).

    ValueError unless exactly one is given; FileNotFoundError on loading if the folder is no checkpoint.
    """

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
        raise NotImplementedError("base_model is read only: a round does not change it")

    def _exists(self) -> bool:
        return self._hub is not None or (self._filepath is not None and self._filepath.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "hub": self._hub}


class AdapterDataset(AtomicDataset):
    """An adapter folder that `PeftModel.from_pretrained` can load, with history and Adam's moments beside it."""

    def read(self, path: Path) -> Adapter:
        return read_adapter(path)

    def write(self, data: Adapter, path: Path) -> None:
        write_adapter(data, path)


class MethodStateDataset(AtomicDataset):
    """What a training method keeps for the next round: safetensors and a JSON record."""

    def read(self, path: Path) -> MethodState:
        return read_state(path)

    def write(self, data: MethodState, path: Path) -> None:
        write_state(data, path)

"""The embedded stream's folder and the embedded model's checkpoint, which two pipelines of this project write."""

import json
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.model.checkpoint import Checkpoint


class EmbeddedStreamDataset(AbstractDataset[Any, Path]):
    """The stream's root folder. Saving `EmbeddedStreamParams` generates the stream and writes it."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        return self._filepath

    def save(self, data: Any) -> None:
        from adapt_infinity.embedded.stream import write_stream

        write_stream(self._filepath, data)

    def _exists(self) -> bool:
        return (self._filepath / "datasets.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class EmbeddedCheckpointDataset(AtomicDataset):
    """The result of pre-training (model, processor, figures), saved as a folder that transformers can load."""

    def read(self, path: Path) -> Checkpoint:
        return Checkpoint(path)

    def write(self, data: Any, path: Path) -> None:
        from adapt_infinity.embedded.model import write_checkpoint

        model, processor, figures = data
        write_checkpoint(path, model, processor)
        (path / "figures.json").write_text(json.dumps(figures, indent=1))

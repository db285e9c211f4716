"""The embedded stream's folder and the embedded model's checkpoint, as the two pipelines that make them leave them."""

import json
from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.model.checkpoint import Checkpoint


class EmbeddedStreamDataset(AbstractDataset[Any, Path]):
    """The stream's root folder. Saving a recipe (`EmbeddedStreamParams`) writes all that it describes."""

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
    """What pre-training made (model, processor, per-skill figures), as an ordinary Hugging Face folder."""

    def read(self, path: Path) -> Checkpoint:
        return Checkpoint(path)

    def write(self, data: Any, path: Path) -> None:
        from adapt_infinity.embedded.model import write_checkpoint

        model, processor, figures = data
        write_checkpoint(path, model, processor)
        (path / "figures.json").write_text(json.dumps(figures, indent=1))

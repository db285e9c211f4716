"""What the probe has read in a stream, and the features of a round. `features/store.py` describes the files."""

from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset
from kedro_datasets._typing import TablePreview

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.datasets.tables import preview_rows
from adapt_infinity.features.store import Features, FeatureStream, ProbeStore, read_features, write_features


class FeaturesDataset(AtomicDataset):
    """`FeatureStream` in, `Features` out."""

    def read(self, path: Path) -> Features:
        return read_features(path)

    def write(self, data: FeatureStream, path: Path) -> None:
        write_features(path, data)

    def save(self, data: FeatureStream) -> None:
        super().save(data)
        data.discard_shards()

    def preview(self, nrows: int = 8) -> TablePreview:
        return preview_rows(self.load().scores, nrows)


class ProbeStoreDataset(AbstractDataset[Any, ProbeStore]):
    """A stream's `ProbeStore`: the shards in `filepath`, and every version of the features of its rounds."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> ProbeStore:
        versions = [path.parent for path in self._filepath.parent.glob("round_*/features/*/features/spec.json")]
        return ProbeStore(self._filepath, tuple(sorted(versions, key=_age)))

    def save(self, data: Any) -> None:
        raise NotImplementedError("the probe itself writes its shards")

    def _exists(self) -> bool:
        return True  # an empty store is a store

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def _age(version: Path) -> tuple[int, str]:
    """Round and version of a features folder."""
    return int(version.parts[-4].removeprefix("round_")), version.parts[-2]

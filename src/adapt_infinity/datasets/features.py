"""Per-sample gradient features of a round, and a stream's store of them; `features/store.py` describes the files."""

from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset
from kedro_datasets._typing import TablePreview

from adapt_infinity.datasets.atomic import AtomicDataset
from adapt_infinity.datasets.tables import preview_rows
from adapt_infinity.features.store import Features, FeatureStream, ProbeStore, read_features, write_features


class FeaturesDataset(AtomicDataset):
    """Saves a `FeatureStream`, loads `Features`."""

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
    """A stream's `ProbeStore`: the shards in `filepath`, and all versions of the features of the stream's rounds."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> ProbeStore:
        versions = [path.parent for path in self._filepath.parent.glob("round_*/features/*/features/spec.json")]
        return ProbeStore(self._filepath, tuple(sorted(versions, key=_round_and_version)))

    def save(self, data: Any) -> None:
        raise NotImplementedError("the probe itself writes its shards")

    def _exists(self) -> bool:
        return True  # an empty store is valid

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def _round_and_version(version: Path) -> tuple[int, str]:
    """Round number and version of a features folder, to sort by."""
    return int(version.parts[-4].removeprefix("round_")), version.parts[-2]

"""Kedro datasets: what the catalog's entries are on disk. Every write is atomic and every result versioned."""

from adapt_infinity.datasets.embedded import EmbeddedCheckpointDataset, EmbeddedStreamDataset
from adapt_infinity.datasets.features import FeaturesDataset, ProbeStoreDataset
from adapt_infinity.datasets.model import AdapterDataset, CheckpointDataset, MethodStateDataset
from adapt_infinity.datasets.pool import PoolDataset
from adapt_infinity.datasets.rows import RowsDataset
from adapt_infinity.datasets.sources import FolderDataset, PicturesDataset, SourcesDataset
from adapt_infinity.datasets.tables import FigureDataset, TableDataset

__all__ = [
    "AdapterDataset",
    "CheckpointDataset",
    "EmbeddedCheckpointDataset",
    "EmbeddedStreamDataset",
    "FeaturesDataset",
    "FigureDataset",
    "FolderDataset",
    "MethodStateDataset",
    "PicturesDataset",
    "PoolDataset",
    "ProbeStoreDataset",
    "RowsDataset",
    "SourcesDataset",
    "TableDataset",
]

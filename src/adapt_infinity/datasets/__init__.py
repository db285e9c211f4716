"""Kedro datasets: how the catalog's entries are stored. Every write is atomic, and every result has a version.

- `atomic`: the base class; what is written appears complete or not at all
- `embedded`: the embedded stream and the embedded checkpoint, where their two pipelines write them
- `features`: per-sample gradient features, and a stream's store of them
- `model`: base checkpoints, adapters, the state of training methods
- `pool`: versions of the pool
- `rows`: tables of samples, written and read in blocks
- `sources`: raw records and pictures, which are only read
- `tables`: tables and figures

Classes are imported when they are first used, because some of them import torch: `kedro pool` and its like start fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

FILES = {  # class → file
    **dict.fromkeys(("EmbeddedCheckpointDataset", "EmbeddedStreamDataset"), "embedded"),
    **dict.fromkeys(("FeaturesDataset", "ProbeStoreDataset"), "features"),
    **dict.fromkeys(("AdapterDataset", "CheckpointDataset", "MethodStateDataset"), "model"),
    "PoolDataset": "pool",
    "RowsDataset": "rows",
    **dict.fromkeys(("FolderDataset", "PicturesDataset", "SourcesDataset"), "sources"),
    **dict.fromkeys(("FigureDataset", "TableDataset"), "tables"),
}


def __getattr__(name: str) -> Any:
    """The class of this name, imported from its file (PEP 562)."""
    if name not in FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{FILES[name]}"), name)

"""A probe of twelve samples in shards of one, for the drill that kills it."""

from dataclasses import replace
from pathlib import Path

import torch
from kedro.io.core import Version

from adapt_infinity.datasets.features import FeaturesDataset, ProbeStoreDataset
from adapt_infinity.intake import Source
from adapt_infinity.lora import Adapter
from adapt_infinity.model import Checkpoint, ModelParams, load_vlm, new_adapter
from adapt_infinity.pictures import Pictures
from adapt_infinity.pool import Pool, join_pool
from adapt_infinity.probe.features import probe_pool
from adapt_infinity.probe.store import Features, FeatureStream
from tests.conftest import CHECKPOINT, TARGETS, checked, llava, unread


def probe_stream(folder: Path, stream: str) -> Features:
    """The features of the stream, through the datasets."""
    dataset = FeaturesDataset(filepath=str(folder / stream / "round_1/features"), version=Version("v", "v"))
    dataset.save(_read(folder, stream))
    features: Features = dataset.load()
    return features


def probe_for_ever(folder: str) -> None:
    """Read the stream `s`; whoever calls this is to be killed."""
    _read(Path(folder), "s")


def _read(folder: Path, stream: str) -> FeatureStream:
    from tests.probe.test_features import PARAMS

    torch.set_num_threads(1)
    records = [llava(f"{n}", (f"What is {n} and one?", f"{n + 1}, of course.")) for n in range(12)]
    pictures = Pictures({}, 1)
    arrivals, _ = checked(Source("sums", "llava", records, {}), pictures)
    pool = join_pool(Pool(), unread(arrivals), 1)
    params = ModelParams(
        device="cpu", dtype="float32", max_tokens=512, adapter_rank=4, adapter_alpha=8, adapter_targets=TARGETS
    )
    base = Checkpoint(CHECKPOINT)
    fresh: Adapter = new_adapter(load_vlm(base, params), params, seed=0)
    store = ProbeStoreDataset(filepath=str(folder / stream / "probe")).load()
    return probe_pool(pool, pictures, base, fresh, store, params, replace(PARAMS, shard=1, window=1), 1)

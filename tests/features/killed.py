"""A probe of twelve samples in shards of one row, in a file of its own so that a test can start it and kill it."""

from dataclasses import replace
from pathlib import Path

import torch
from kedro.io.core import Version

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.datasets.features import FeaturesDataset, ProbeStoreDataset
from adapt_infinity.features.probe import probe_pool
from adapt_infinity.features.store import Features, FeatureStream
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm, new_adapter
from adapt_infinity.model.lora import Adapter
from adapt_infinity.pool.pool import Pool, join_pool
from tests.conftest import CHECKPOINT, TARGETS, checked, llava, unread


def probe_stream(folder: Path, stream: str) -> Features:
    """Probe the stream and return its features, through the datasets."""
    dataset = FeaturesDataset(filepath=str(folder / stream / "round_1/features"), version=Version("v", "v"))
    dataset.save(_probe(folder, stream))
    features: Features = dataset.load()
    return features


def probe_until_killed(folder: str) -> None:
    """Probe the stream `s`. The test kills the process that runs this."""
    _probe(Path(folder), "s")


def _probe(folder: Path, stream: str) -> FeatureStream:
    from tests.features.test_probe import PARAMS

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

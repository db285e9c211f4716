"""A worker of the probe: it reads one shard of samples with the model, and writes the rows to disk.

The model is loaded once per process and kept for the shards that follow. A shard that is already on disk is not read.
"""

import multiprocessing
import multiprocessing.util
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.executors import ProcessCache
from adapt_infinity.features.adam_moments import adapter_moments
from adapt_infinity.features.batch_invariance import batch_dependence
from adapt_infinity.features.batch_reading import BatchReading, read_batch, read_losses
from adapt_infinity.features.batching import TokenBudget, run_in_batches
from adapt_infinity.features.image_ablation import EncodedPair, ImageAblationEncoder
from adapt_infinity.features.shards import (
    KEY_TYPE,
    STORED_DTYPE,
    ShardRows,
    concatenate_rows,
    shard_name,
    stored_keys,
    write_shard,
)
from adapt_infinity.features.spec import Spec
from adapt_infinity.features.vision_cache import cache_vision_outputs
from adapt_infinity.model.checkpoint import Batch, Checkpoint, ModelParams, Reader, load_reader, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.model.merging import merge_adapter
from adapt_infinity.model.prompts import Encoded, collate, pad_token

SAMPLES_PER_CALL = 16  # that a loader process encodes at a time


@dataclass(frozen=True)
class ProbeJob:
    """What is the same for all shards. For the settings, see `probe.ProbeParams`."""

    base: Checkpoint
    adapter: Adapter = field(compare=False)  # the fingerprint identifies it
    model: ModelParams
    pictures: Pictures
    spec: Spec
    fingerprint: str  # of model and spec; see `store.Identity`
    folder: Path  # where shards are written
    token_budget: int
    memory_mb: int
    window: int
    loaders: int
    threads: int
    image_cache_mb: int


@dataclass(frozen=True)
class ShardTask:
    """A shard that is to be read."""

    first: int  # index in the pool of its first sample
    keys: pa.Array
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class FinishedShard:
    """A shard that is on disk."""

    first: int  # index in the pool of its first sample
    file_name: str
    keys: pa.Array
    rows: int  # that were read; 0 for a shard that was already on disk
    tokens: int  # that were read
    zero_gradient: tuple[str, ...]  # weights whose gradient was 0 for every sample
    batch_dependence: str = ""  # why the rows depend on their batch; "" where they do not


def probe_shard(job: ProbeJob, task: ShardTask) -> FinishedShard:
    """Read and write a shard. `ValueError` names samples that have no usable gradient."""
    name = shard_name(task.keys)
    if (job.folder / name).exists() and stored_keys(job.folder / name, job.fingerprint) is not None:
        return FinishedShard(task.first, name, task.keys, 0, 0, ())
    windows, tokens = [], 0
    with _threads(job.threads):
        worker = _cache.get(job)
        for samples, pairs in worker.loader.windows(task.samples, job.window):
            windows.append(worker.read(samples, pairs))
            tokens += sum(len(whole) for whole, _ in pairs)
    write_shard(job.folder / name, concatenate_rows(task.keys, [window.rows for window in windows]), job.fingerprint)
    zero = tuple(sorted(frozenset.intersection(*(window.zero_gradient for window in windows))))
    return FinishedShard(task.first, name, task.keys, len(task.samples), tokens, zero, worker.batch_dependence)


@dataclass(frozen=True)
class WindowReading:
    """The rows of some samples, and the weights whose gradient was 0 for all of them."""

    rows: ShardRows  # without keys
    zero_gradient: frozenset[str]


class ProbeWorker:
    """The model of a job in memory, with everything that it needs to read samples."""

    def __init__(self, job: ProbeJob) -> None:
        self.job = job
        self.vlm = load_vlm(job.base, job.model, job.adapter)
        if job.spec.feature == "gradient":
            merge_adapter(self.vlm, job.spec.layers)
        if job.image_cache_mb:
            cache_vision_outputs(self.vlm, job.image_cache_mb)
        self.batch_dependence = batch_dependence(self.vlm)
        self.loader = SampleLoader(job)
        self._budget = TokenBudget(job.token_budget, job.memory_mb, self.vlm.device)
        self._moments = adapter_moments(self.vlm, job.adapter, job.spec.layers)
        self._steps = int(job.adapter.record.get("moment_steps", 0))

    def read(self, samples: Sequence[Sample], pairs: Sequence[EncodedPair]) -> WindowReading:
        """Features, embeddings and scores of some samples, in their order. `pairs` are their encodings."""
        whole = [row for row, _ in pairs]
        without_images = [row for _, row in pairs]
        ablated = self._losses_without_images(without_images) if self.job.spec.image_grounding else None
        features: np.ndarray | None = None
        embeddings = np.empty(0)
        scores: dict[str, np.ndarray] = {}
        zero: frozenset[str] | None = None

        def work(members: list[int], length: int) -> BatchReading:
            batch = self._collated([whole[index] for index in members], length)
            losses = None if ablated is None else ablated[members]
            return read_batch(self.vlm, batch, losses, self.job.spec, self._moments, self._steps)

        for members, reading in run_in_batches([len(row) for row in whole], self._budget, work):
            _require_usable_gradients(reading, [samples[index].sample_id for index in members])
            if features is None:
                features = np.empty((len(whole), reading.features.shape[1]), STORED_DTYPE)
                embeddings = np.empty((len(whole), reading.embeddings.shape[1]), STORED_DTYPE)
                scores = {name: np.empty(len(whole)) for name in reading.scores}
            features[members] = _unit_rows(reading.features)
            embeddings[members] = _unit_rows(reading.embeddings)
            for name, values in reading.scores.items():
                scores[name][members] = values.numpy()
            zero_here = frozenset(reading.zero_gradient)
            zero = zero_here if zero is None else zero & zero_here
        assert features is not None, "a window has at least one row"
        scores["reread_tokens"] = np.array([0.0 if row is None else len(row) for row in without_images])
        rows = ShardRows(pa.nulls(len(whole), KEY_TYPE), features, embeddings, scores)
        return WindowReading(rows, zero or frozenset())

    def _losses_without_images(self, rows: Sequence[Encoded | None]) -> np.ndarray:
        """The loss of each answer when the sample's images are left out; NaN for a sample without images."""
        losses = np.full(len(rows), np.nan, np.float32)
        indices = np.array([index for index, row in enumerate(rows) if row is not None], np.int64)
        present = [row for row in rows if row is not None]

        def work(members: list[int], length: int) -> Tensor:
            return read_losses(self.vlm, self._collated([present[index] for index in members], length))

        for members, nll in run_in_batches([len(row) for row in present], self._budget, work):
            losses[indices[members]] = nll.numpy()
        return losses

    def _collated(self, rows: list[Encoded], length: int) -> Batch:
        return collate(rows, pad_token(self.vlm), length=length)


class SampleLoader:
    """Encodes samples, in this process or in loader processes, which work one window ahead of the model."""

    def __init__(self, job: ProbeJob) -> None:
        reader = load_reader(job.base, job.model)
        ablate = job.spec.image_grounding
        self._encoder = ImageAblationEncoder(reader, job.pictures, ablate)
        self._pool = None
        if job.loaders:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(job.loaders, spawn, _initialise_loader, (reader, job.pictures, ablate))
            # When this process ends: before multiprocessing closes its queues (priority 10) and waits for its children.
            multiprocessing.util.Finalize(self, self._pool.shutdown, exitpriority=100)

    def windows(self, samples: Sequence[Sample], size: int) -> Iterator[tuple[Sequence[Sample], list[EncodedPair]]]:
        """The samples in windows of `size`, each with the encodings of its samples."""
        windows = [samples[start : start + size] for start in range(0, len(samples), size)]
        if self._pool is None:
            for window in windows:
                yield window, [self._encoder.encode_pair(sample) for sample in window]
            return
        waiting = [self._submit(window) for window in windows[:1]]
        for number, window in enumerate(windows):
            if number + 1 < len(windows):
                waiting.append(self._submit(windows[number + 1]))
            yield window, [pair for future in waiting.pop(0) for pair in future.result()]

    def _submit(self, window: Sequence[Sample]) -> list[Future[list[EncodedPair]]]:
        assert self._pool is not None
        starts = range(0, len(window), SAMPLES_PER_CALL)
        return [self._pool.submit(_load, window[start : start + SAMPLES_PER_CALL]) for start in starts]


_loader_encoder: ImageAblationEncoder | None = None  # set in a loader process


def _initialise_loader(reader: Reader, pictures: Pictures, ablate: bool) -> None:
    global _loader_encoder
    torch.set_num_threads(1)
    _loader_encoder = ImageAblationEncoder(reader, pictures, ablate)


def _load(samples: Sequence[Sample]) -> list[EncodedPair]:
    assert _loader_encoder is not None, "the pool initialises a loader before it calls it"
    return [_loader_encoder.encode_pair(sample) for sample in samples]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """While open, torch computes with `count` threads; 0 = with as many as before.

    Several threads divide a product of few rows in another way than a product of many. The last bits of a row then
    depend on its batch.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_cache = ProcessCache(ProbeWorker)


def release_model() -> None:
    """Free the model of this process: the stages that follow need the memory."""
    _cache.release()


def _unit_rows(rows: Tensor) -> np.ndarray:
    return np.asarray((rows / rows.norm(dim=1, keepdim=True)).to(torch.float16).numpy())


def _require_usable_gradients(reading: BatchReading, sample_ids: list[int]) -> None:
    """A row that is zero or not finite has no direction. Its sample is named, so that no NaN is ever stored."""
    lengths = reading.features.norm(dim=1)
    unusable = ~torch.isfinite(lengths) | (lengths == 0)
    if unusable.any():
        named = list(dict.fromkeys(one for one, bad in zip(sample_ids, unusable.tolist(), strict=True) if bad))
        raise ValueError(f"no usable gradient for samples {named[:5]}: the loss or its gradient is zero or not finite")

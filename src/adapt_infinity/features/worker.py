"""What a worker does: read one shard of samples with the model, and write it down.

The model is opened once a process and stays for the shards that follow. A shard that is there already is not read.
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

CHUNK = 16  # samples that a loader prepares at a time


@dataclass(frozen=True)
class ProbeJob:
    """What is the same for all shards."""

    base: Checkpoint
    adapter: Adapter = field(compare=False)  # the fingerprint names it
    model: ModelParams
    pictures: Pictures
    spec: Spec
    fingerprint: str
    folder: Path
    token_budget: int
    memory_mb: int
    window: int
    loaders: int
    threads: int
    image_cache_mb: int


@dataclass(frozen=True)
class Task:
    """A shard to be read. `first` is the place in the pool of its first sample."""

    first: int
    keys: pa.Array
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Done:
    """A shard on disk."""

    first: int
    name: str
    keys: pa.Array
    rows: int  # read now; 0 when it was there already
    tokens: int
    dead: tuple[str, ...]  # modules that no gradient reached
    batch_dependence: str = ""  # why the rows depend on their batch; "" where they do not


def read_task(job: ProbeJob, task: Task) -> Done:
    """Read and write a shard; `ValueError` names samples that have no usable gradient."""
    name = shard_name(task.keys)
    if (job.folder / name).exists() and stored_keys(job.folder / name, job.fingerprint) is not None:
        return Done(task.first, name, task.keys, 0, 0, ())
    windows, tokens = [], 0
    with _threads(job.threads):
        opened = _kept.get(job)
        for samples, pairs in opened.loader.windows(task.samples, job.window):
            windows.append(opened.read(samples, pairs))
            tokens += sum(len(whole) for whole, _ in pairs)
    write_shard(job.folder / name, concatenate_rows(task.keys, [window.rows for window in windows]), job.fingerprint)
    dead = frozenset.intersection(*(window.dead for window in windows))
    return Done(task.first, name, task.keys, len(task.samples), tokens, tuple(sorted(dead)), opened.batch_dependence)


@dataclass(frozen=True)
class Window:
    """Some samples as read, and the modules that no gradient reached for any of them."""

    rows: ShardRows  # without keys
    dead: frozenset[str]


class ProbeWorker:
    """The model of a job, live, with what it needs to read samples."""

    def __init__(self, job: ProbeJob) -> None:
        self.job = job
        self.vlm = load_vlm(job.base, job.model, job.adapter)
        if job.spec.feature == "gradient":
            merge_adapter(self.vlm, job.spec.layers)
        if job.image_cache_mb:
            cache_vision_outputs(self.vlm, job.image_cache_mb)
        self.batch_dependence = batch_dependence(self.vlm)
        self.loader = Loader(job)
        self._budget = TokenBudget(job.token_budget, job.memory_mb, self.vlm.device)
        self._moments = adapter_moments(self.vlm, job.adapter, job.spec.layers)
        self._steps = int(job.adapter.record.get("moment_steps", 0))

    def read(self, samples: Sequence[Sample], pairs: Sequence[EncodedPair]) -> Window:
        """Features, embeddings and scores of a window of samples, in their order."""
        whole = [row for row, _ in pairs]
        again = [row for _, row in pairs]
        bare = self._losses_without_pictures(again) if self.job.spec.image_grounding else None
        features: np.ndarray | None = None
        embeddings = np.empty(0)
        scores: dict[str, np.ndarray] = {}
        dead: frozenset[str] | None = None

        def work(places: list[int], length: int) -> BatchReading:
            batch = self._collated([whole[place] for place in places], length)
            alone = None if bare is None else bare[places]
            return read_batch(self.vlm, batch, alone, self.job.spec, self._moments, self._steps)

        for places, reading in run_in_batches([len(row) for row in whole], self._budget, work):
            _refuse_useless(reading, [samples[place].sample_id for place in places])
            if features is None:
                features = np.empty((len(whole), reading.features.shape[1]), STORED_DTYPE)
                embeddings = np.empty((len(whole), reading.embeddings.shape[1]), STORED_DTYPE)
                scores = {name: np.empty(len(whole)) for name in reading.scores}
            features[places] = _unit(reading.features)
            embeddings[places] = _unit(reading.embeddings)
            for name, values in reading.scores.items():
                scores[name][places] = values.numpy()
            mine = frozenset(reading.zero_gradient)
            dead = mine if dead is None else dead & mine
        assert features is not None, "a window has at least one row"
        scores["reread_tokens"] = np.array([0.0 if row is None else len(row) for row in again])
        return Window(ShardRows(pa.nulls(len(whole), KEY_TYPE), features, embeddings, scores), dead or frozenset())

    def _losses_without_pictures(self, bare: Sequence[Encoded | None]) -> np.ndarray:
        """Loss of the same answers when the pictures are left out; NaN where there was none to leave out."""
        losses = np.full(len(bare), np.nan, np.float32)
        present = np.array([place for place, row in enumerate(bare) if row is not None], np.int64)
        rows = [row for row in bare if row is not None]

        def work(places: list[int], length: int) -> Tensor:
            return read_losses(self.vlm, self._collated([rows[place] for place in places], length))

        for places, nll in run_in_batches([len(row) for row in rows], self._budget, work):
            losses[present[places]] = nll.numpy()
        return losses

    def _collated(self, rows: list[Encoded], length: int) -> Batch:
        return collate(rows, pad_token(self.vlm), length=length)


class Loader:
    """Turns samples into tokens, in this process or, a window ahead of the model, in others."""

    def __init__(self, job: ProbeJob) -> None:
        reader = load_reader(job.base, job.model)
        twice = job.spec.image_grounding
        self._here = ImageAblationEncoder(reader, job.pictures, twice)
        self._pool = None
        if job.loaders:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(job.loaders, spawn, _begin_loading, (reader, job.pictures, twice))
            # at a worker's end: before queues are closed (priority 10), and before it waits for its children
            multiprocessing.util.Finalize(self, self._pool.shutdown, exitpriority=100)

    def windows(self, samples: Sequence[Sample], size: int) -> Iterator[tuple[Sequence[Sample], list[EncodedPair]]]:
        """The samples window by window, with their tokens."""
        cut = [samples[start : start + size] for start in range(0, len(samples), size)]
        if self._pool is None:
            for window in cut:
                yield window, [self._here.encode_pair(sample) for sample in window]
            return
        coming = [self._submit(window) for window in cut[:1]]
        for number, window in enumerate(cut):
            if number + 1 < len(cut):
                coming.append(self._submit(cut[number + 1]))
            yield window, [made for future in coming.pop(0) for made in future.result()]

    def _submit(self, window: Sequence[Sample]) -> list[Future[list[EncodedPair]]]:
        assert self._pool is not None
        chunks = [window[start : start + CHUNK] for start in range(0, len(window), CHUNK)]
        return [self._pool.submit(_load, chunk) for chunk in chunks]


_loading: ImageAblationEncoder | None = None  # of a loader process


def _begin_loading(reader: Reader, pictures: Pictures, twice: bool) -> None:
    global _loading
    torch.set_num_threads(1)
    _loading = ImageAblationEncoder(reader, pictures, twice)


def _load(samples: Sequence[Sample]) -> list[EncodedPair]:
    assert _loading is not None, "a loader begins before it loads"
    return [_loading.encode_pair(sample) for sample in samples]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have torch compute with so many threads in the meantime; 0 = with those it has.

    Threads share out a product of few rows otherwise than one of many, so that a row's last bits hang on its batch.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_kept = ProcessCache(ProbeWorker)


def release() -> None:
    """Let go of this process's model: the stages that follow need its memory."""
    _kept.release()


def _unit(rows: Tensor) -> np.ndarray:
    return np.asarray((rows / rows.norm(dim=1, keepdim=True)).to(torch.float16).numpy())


def _refuse_useless(reading: BatchReading, sample_ids: list[int]) -> None:
    """A zero or non-finite row has no direction: its sample is named, and no NaN is ever stored."""
    lengths = reading.features.norm(dim=1)
    bad = ~torch.isfinite(lengths) | (lengths == 0)
    if bad.any():
        named = list(dict.fromkeys(one for one, is_bad in zip(sample_ids, bad.tolist(), strict=True) if is_bad))
        raise ValueError(f"no usable gradient for samples {named[:5]}: the loss or its gradient is zero or not finite")

"""The probe of a round: the current model reads those samples of the pool whose rows are not on disk yet.

docs/method.md, section 2, defines the quantities, and docs/performance.md explains the order of work. A sample whose
content this model has read with the same spec, in an earlier run or under another id, is not read again. The others are
divided into shards, which workers read and write independently. Memory is bounded by the shards, not by the pool.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Int
from tqdm import tqdm

from adapt_infinity import executors
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.features import gradients, sketches
from adapt_infinity.features.drift import drift
from adapt_infinity.features.shards import RowIndex, keys_of
from adapt_infinity.features.spec import FEATURES, Spec
from adapt_infinity.features.store import FeatureStream, Identity, ProbeStore, Table, gather
from adapt_infinity.features.worker import FinishedShard, ProbeJob, ShardTask, probe_shard, release_model
from adapt_infinity.model import adapters
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, arithmetic, base_digest, decoder_depth
from adapt_infinity.model.lora import Adapter, adapter_digest, read_adapter
from adapt_infinity.parameters import NonNegativeInt, NotEmpty, OneOf, PositiveInt, check
from adapt_infinity.pool.pool import Pool

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProbeParams:
    """params:probe."""

    SECTION: ClassVar[str] = "probe"

    # what a row is
    feature: Annotated[str, OneOf(FEATURES)] = "gradient"
    # decoder layers whose adapter is probed, by number from the bottom
    layers: Literal["middle", "all"] | int | Annotated[list[int], NotEmpty] = "middle"
    embedding_layer: Annotated[int, Ge(-1)] = -1  # decoder layer whose output is the embedding; -1 = the last one
    dim: PositiveInt = 1024  # width of a feature row
    gradient: Annotated[str, OneOf(gradients.names)] = "sgd"  # a file in features/gradients
    sketch: Annotated[str, OneOf(sketches.names)] = "segments"  # a file in features/sketches
    image_grounding: bool = True  # read samples a second time without their pictures, as the score of that name needs
    proxy: str = ""  # checkpoint folder of a model that reads in place of the base model; "" = none
    proxy_adapter: str = ""  # folder of the proxy's LoRA adapter, in PEFT's layout
    # which rows are read
    reuse: Literal["exact", "drift", "off"] = "exact"
    # of the rows that an older adapter has read: the share that is read again, to measure the drift
    drift_share: Annotated[float, Gt(0), Le(1)] = 0.1
    drift_limit: Annotated[float, Gt(0), Le(1)] = 0.9  # median cosine of their features below which all are read again
    # how they are read
    executor: Annotated[str, OneOf(executors.names)] = "local"  # a file in executors
    workers: NonNegativeInt = 1  # 0 = one per device
    threads: NonNegativeInt = 1  # of a worker on the CPU; 0 = its share of the cores
    loaders: NonNegativeInt = 0  # processes per worker that prepare its samples; 0 = the worker itself
    shard: PositiveInt = 1024  # rows written together
    window: PositiveInt = 1024  # rows bucketed by length together
    token_budget: PositiveInt = 4096  # tokens in a batch, padding included
    memory_mb: NonNegativeInt = 0  # what a batch may add to the memory in use; 0 = no target
    image_cache_mb: NonNegativeInt = 64  # of a frozen vision tower's outputs, per worker; 0 = none

    def __post_init__(self) -> None:
        check(self)
        if bool(self.proxy) != bool(self.proxy_adapter):
            raise ValueError("probe.proxy and probe.proxy_adapter are given together, or neither is")


def probe_pool(
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    previous_adapter: Adapter,
    probe_store: ProbeStore,
    model_params: ModelParams,
    params: ProbeParams,
    round: int,
) -> FeatureStream:
    """Read those rows of the pool that are not on disk yet. The result is gathered from disk when it is saved.

    With `probe.reuse=drift`, a sample of the rows that an older adapter made is read again: if their features are
    similar to the old ones, the other old rows are used as they are, marked as stale. `ValueError` names samples that
    have no usable gradient, wrong layers, and models that are not supported.
    """
    if params.proxy:
        base_model, previous_adapter = Checkpoint(Path(params.proxy)), read_adapter(Path(params.proxy_adapter))
    identity = identify(base_model, previous_adapter, model_params, params)
    fingerprint = identity.fingerprint
    ids = pool.index["sample_id"].to_numpy(np.int64)
    keys = keys_of(pool.fetch(ids, ["content_hash"])["content_hash"])
    job = ProbeJob(
        base=base_model,
        adapter=previous_adapter,
        model=model_params,
        pictures=pictures,
        spec=identity.spec,
        fingerprint=fingerprint,
        folder=probe_store.shards(fingerprint),
        token_budget=params.token_budget,
        memory_mb=params.memory_mb,
        window=params.window,
        loaders=params.loaders,
        threads=params.threads,
        image_cache_mb=params.image_cache_mb,
    )
    if params.reuse == "off":
        probe_store.delete_shards(fingerprint)
    tables = [] if params.reuse == "off" else probe_store.tables(fingerprint)
    run = _ProbeRun(pool, ids, keys, job, params)
    older = probe_store.newest_with_other_adapter(identity, round) if params.reuse == "drift" else None
    measured: dict[str, float] = {}
    if older is not None:
        missing = _missing(tables, keys)
        reusable = missing & ~_missing([older], keys)
        sampled = reusable & (np.random.default_rng(round).random(len(ids)) < params.drift_share)
        if sampled.any():
            tables += run.read((missing & ~reusable) | sampled)
            measured = _measure_drift(tables, older, keys.filter(pa.array(sampled)), params.drift_limit)
            if measured["features, median cosine"] >= params.drift_limit:
                tables.append(older)
    tables += run.read(_missing(tables, keys))
    release_model()
    record = {**run.record(), "rows": len(ids), "drift": measured}
    return FeatureStream(ids, keys, tables, identity, round, record)


def identify(base: Checkpoint, adapter: Adapter, model: ModelParams, params: ProbeParams) -> Identity:
    """What decides the numbers of the probe's rows, apart from the samples.

    `ValueError` for an adapter that reads different samples with different weights, and for layers that the model does
    not have.
    """
    if adapters.routes_samples(adapter.adapter_type):
        raise ValueError(
            f"the probe reads all samples with the same weights, and an adapter of type {adapter.adapter_type['kind']} "
            "does not: choose a strategy without a probe, such as sequential or random"
        )
    depth = decoder_depth(base)
    spec = Spec(
        feature=params.feature,
        layers=_layers(params.layers, depth),
        embedding_layer=_layer(
            depth - 1 if params.embedding_layer == -1 else params.embedding_layer, depth, "embedding_layer"
        ),
        dim=params.dim,
        gradient=params.gradient,
        sketch=params.sketch,
        image_grounding=params.image_grounding,
    )
    return Identity(base_digest(base), adapter_digest(adapter), arithmetic(model), spec)


@dataclass
class _ProbeRun:
    """The samples that this run of the probe reads, and what was finished of them."""

    pool: Pool
    ids: Int[np.ndarray, " rows"]
    keys: pa.Array
    job: ProbeJob
    params: ProbeParams
    finished: list[FinishedShard] = field(default_factory=list)
    batch_dependence: set[str] = field(default_factory=set)  # warnings that were given
    seconds: float = 0.0

    def read(self, wanted: Bool[np.ndarray, " rows"]) -> list[Table]:
        """Let workers read the `wanted` samples, each content once. Returns the new tables, in pool order."""
        start = time.perf_counter()
        indices = np.flatnonzero(wanted)
        listed = self.keys.take(pa.array(indices)).to_pylist()
        first = dict(reversed(list(zip(listed, indices.tolist(), strict=True))))  # of equal contents the lowest index
        chosen = np.array(sorted(first.values()), np.int64)
        tables = []
        run = executors.load(self.params.executor)
        with tqdm(total=len(chosen), desc="probing", unit="row", disable=None) as bar:
            for shard in run(probe_shard, self.job, self._tasks(chosen), self.params.workers):
                tables.append((shard.first, Table(self.job.folder / shard.file_name, self.job.fingerprint, shard.keys)))
                self.finished.append(shard)
                self._warn_of(shard.batch_dependence)
                bar.update(shard.rows)
                tokens = sum(finished.tokens for finished in self.finished)
                bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):,.0f} tokens/s")
        self.seconds += time.perf_counter() - start
        zero = sorted({name for shard in self.finished for name in shard.zero_gradient})
        if zero:
            log.warning(
                "no gradient reaches %d weights (%s is the first): the adapter is fresh (B = 0), and their part of the "
                "features is 0; a trained adapter has no such weights",
                len(zero),
                zero[0],
            )
        return [table for _, table in sorted(tables, key=lambda pair: pair[0])]

    def _warn_of(self, batch_dependence: str) -> None:
        """Log each different warning once; workers on machines of one kind give the same one."""
        if batch_dependence and batch_dependence not in self.batch_dependence:
            self.batch_dependence.add(batch_dependence)
            log.warning("%s", batch_dependence)

    def record(self) -> dict[str, int | float]:
        """How much was read, and how long it took."""
        return {
            "rows read": sum(shard.rows for shard in self.finished),
            "tokens": sum(shard.tokens for shard in self.finished),
            "seconds": self.seconds,
        }

    def _tasks(self, chosen: Int[np.ndarray, " rows"]) -> Iterator[ShardTask]:
        for start in range(0, len(chosen), self.params.shard):
            indices = chosen[start : start + self.params.shard]
            samples = samples_of(self.pool.rows(self.ids[indices]))
            yield ShardTask(int(indices[0]), self.keys.take(pa.array(indices)), tuple(samples))


def _measure_drift(tables: Sequence[Table], older: Table, keys: pa.Array, limit: float) -> dict[str, float]:
    """The drift between the new and the older rows of `keys`; see `drift.drift`."""
    (now, _), (before, _) = (
        gather(found, RowIndex([table.keys for table in found]), keys, "") for found in (tables, [older])
    )
    measured = drift(now, before)
    median = measured["features, median cosine"]
    log.info(
        "the features of %d sampled rows of an older adapter have a median cosine of %.3f to the new ones: the other "
        "old rows are %s",
        len(keys),
        median,
        "used as they are" if median >= limit else f"read again (probe.drift_limit {limit})",
    )
    return measured


def _missing(tables: Sequence[Table], keys: pa.Array) -> Bool[np.ndarray, " rows"]:
    """True for each key that is in none of the tables."""
    return RowIndex([table.keys for table in tables]).find(keys)[0] < 0


def _layers(value: str | int | list[int], depth: int) -> tuple[int, ...]:
    match value:
        case "middle":
            return (depth // 2,)
        case "all":
            return tuple(range(depth))
    listed = [value] if isinstance(value, int) else value
    assert not isinstance(listed, str), "checked by ProbeParams"
    return tuple(sorted({_layer(number, depth, "layers") for number in listed}))


def _layer(number: int, depth: int, name: str) -> int:
    if not 0 <= number < depth:
        raise ValueError(f"probe.{name} must lie in 0..{depth - 1}, got {number}")
    return number

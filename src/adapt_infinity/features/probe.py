"""The pool as the current model sees it: what is known already, who reads the rest.

METHOD section 2 defines the quantities; PERFORMANCE explains the order of work. A sample that this model has read under
this spec, in an earlier run or under another id with the same content, is not read again. The others are cut into
shards, which workers read and write on their own; memory is bounded by shards, not by the pool.
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
from adapt_infinity.features.worker import Done, ProbeJob, Task, read_task, release
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
    """Read what is not known of the pool with the model as it is now; rows are gathered when they are saved."""
    if params.proxy:
        base_model, previous_adapter = Checkpoint(Path(params.proxy)), read_adapter(Path(params.proxy_adapter))
    identity = identify(base_model, previous_adapter, model_params, params)
    mark = identity.fingerprint
    ids = pool.index["sample_id"].to_numpy(np.int64)
    keys = keys_of(pool.fetch(ids, ["content_hash"])["content_hash"])
    job = ProbeJob(
        base=base_model,
        adapter=previous_adapter,
        model=model_params,
        pictures=pictures,
        spec=identity.spec,
        fingerprint=mark,
        folder=probe_store.shards(mark),
        token_budget=params.token_budget,
        memory_mb=params.memory_mb,
        window=params.window,
        loaders=params.loaders,
        threads=params.threads,
        image_cache_mb=params.image_cache_mb,
    )
    if params.reuse == "off":
        probe_store.delete_shards(mark)
    known = [] if params.reuse == "off" else probe_store.tables(mark)
    reading = _Reading(pool, ids, keys, job, params)
    before = probe_store.newest_with_other_adapter(identity, round) if params.reuse == "drift" else None
    drifted: dict[str, float] = {}
    if before is not None:
        unknown = _absent(known, keys)
        kept = unknown & ~_absent([before], keys)
        sampled = kept & (np.random.default_rng(round).random(len(ids)) < params.drift_share)
        if sampled.any():
            known += reading.read((unknown & ~kept) | sampled)
            drifted = _measure_drift(known, before, keys.filter(pa.array(sampled)), params.drift_limit)
            if drifted["features, median cosine"] >= params.drift_limit:
                known.append(before)
    known += reading.read(_absent(known, keys))
    release()
    record = {**reading.record(), "rows": len(ids), "drift": drifted}
    return FeatureStream(ids, keys, known, identity, round, record)


def identify(base: Checkpoint, adapter: Adapter, model: ModelParams, params: ProbeParams) -> Identity:
    """Which model reads, and what a row is; `ValueError` for layers that the model does not have."""
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
class _Reading:
    """The work of this run."""

    pool: Pool
    ids: Int[np.ndarray, " rows"]
    keys: pa.Array
    job: ProbeJob
    params: ProbeParams
    done: list[Done] = field(default_factory=list)
    batch_dependence: set[str] = field(default_factory=set)  # what has been warned of
    seconds: float = 0.0

    def read(self, wanted: Bool[np.ndarray, " rows"]) -> list[Table]:
        """Have the samples read whose contents are `wanted`, each content once; the new tables."""
        start = time.perf_counter()
        places = np.flatnonzero(wanted)
        listed = self.keys.take(pa.array(places)).to_pylist()
        first = dict(reversed(list(zip(listed, places.tolist(), strict=True))))  # of several ids the lowest
        chosen = np.array(sorted(first.values()), np.int64)
        tables = []
        run = executors.load(self.params.executor)
        with tqdm(total=len(chosen), desc="probing", unit="row", disable=None) as bar:
            for done in run(read_task, self.job, self._tasks(chosen), self.params.workers):
                tables.append((done.first, Table(self.job.folder / done.name, self.job.fingerprint, done.keys)))
                self.done.append(done)
                self._warn_of(done.batch_dependence)
                bar.update(done.rows)
                bar.set_postfix_str(f"{sum(d.tokens for d in self.done) / (time.perf_counter() - start):,.0f} tokens/s")
        self.seconds += time.perf_counter() - start
        dead = sorted({name for done in self.done for name in done.dead})
        if dead:
            log.warning(
                "no gradient reaches %s (%d weights): the adapter is fresh (B = 0); their part of the features is 0",
                dead[0],
                len(dead),
            )
        return [table for _, table in sorted(tables, key=lambda found: found[0])]

    def _warn_of(self, batch_dependence: str) -> None:
        """Once for all workers: they are on one kind of machine, or say something else."""
        if batch_dependence and batch_dependence not in self.batch_dependence:
            self.batch_dependence.add(batch_dependence)
            log.warning("%s", batch_dependence)

    def record(self) -> dict[str, int | float]:
        """What was read and what it took."""
        return {
            "rows read": sum(done.rows for done in self.done),
            "tokens": sum(done.tokens for done in self.done),
            "seconds": self.seconds,
        }

    def _tasks(self, chosen: Int[np.ndarray, " rows"]) -> Iterator[Task]:
        for start in range(0, len(chosen), self.params.shard):
            here = chosen[start : start + self.params.shard]
            samples = samples_of(self.pool.rows(self.ids[here]))
            yield Task(int(here[0]), self.keys.take(pa.array(here)), tuple(samples))


def _measure_drift(known: Sequence[Table], before: Table, keys: pa.Array, limit: float) -> dict[str, float]:
    (now, _), (then, _) = (gather(tables, RowIndex([t.keys for t in tables]), keys, "") for tables in (known, [before]))
    found = drift(now, then)
    median = found["features, median cosine"]
    log.info(
        "of %d sampled rows that an older adapter has read, the features' median cosine is %.3f: the others are %s",
        len(keys),
        median,
        "taken over" if median >= limit else f"read again (probe.drift_limit {limit})",
    )
    return found


def _absent(tables: Sequence[Table], keys: pa.Array) -> Bool[np.ndarray, " rows"]:
    return RowIndex([table.keys for table in tables]).find(keys)[0] < 0


def _layers(asked: str | int | list[int], depth: int) -> tuple[int, ...]:
    match asked:
        case "middle":
            return (depth // 2,)
        case "all":
            return tuple(range(depth))
        case str():
            raise ValueError(f"probe.layers must be middle, all, a number or a list of numbers, got {asked!r}")
    listed = [asked] if isinstance(asked, int) else asked
    if not listed:
        raise ValueError("probe.layers names no layer")
    return tuple(sorted({_layer(number, depth, "layers") for number in listed}))


def _layer(number: int, depth: int, name: str) -> int:
    if not 0 <= number < depth:
        raise ValueError(f"probe.{name} must lie in 0..{depth - 1}, got {number}")
    return number

"""Samples of the embedded stream and the embedded model with a warmed-up adapter, for the benchmarks of the probe."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from torch import nn

from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA, Sample, samples_of
from adapt_infinity.embedded.stream import ARRIVALS, EmbeddedStreamParams, write_stream
from adapt_infinity.features.spec import Spec
from adapt_infinity.features.worker import ProbeJob
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, to_dataframe
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams
from adapt_infinity.training.params import TrainingParams, WarmUpParams
from adapt_infinity.training.round import warm_up_adapter

PROJECT = Path(__file__).parents[1]
TARGETS = (
    r".*(language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    r"|multi_modal_projector\.linear_[12])"
)
LAYER, EMBEDDING_LAYER, DIM, TOKENS = 2, 3, 1024, 4096
SPEC = Spec(
    feature="gradient",
    layers=(LAYER,),
    embedding_layer=EMBEDDING_LAYER,
    dim=DIM,
    gradient="sgd",
    sketch="segments",
    image_grounding=True,
)


def training_params(**changed: Any) -> TrainingParams:
    """The parameters of conf/base, with seed 0, without checkpoints, and with the given changes."""
    shipped = yaml.safe_load((PROJECT / "conf/base/parameters_training.yml").read_text())["training"]
    return TrainingParams(**{**shipped, "seed": 0, "checkpoint_every": 0, **changed})


def prepare(folder: Path, rows: int) -> tuple[list[Sample], ProbeJob]:
    """The same number of samples of each arrival, and a probe job with the embedded model and a warmed-up adapter."""
    write_stream(folder, EmbeddedStreamParams(train_size=rows // len(ARRIVALS) + 1, design_size=1, test_size=1))
    pictures = Pictures(dict.fromkeys(ARRIVALS, folder), 10**6)
    checked = []
    for name in ARRIVALS:
        records = json.loads((folder / name / "train.json").read_text(encoding="utf-8"))
        intake = IntakeParams(max_text=10_000, max_reject_share=0.0, near_bits=10, on_contamination="report", workers=2)
        arrivals, _ = check_records(Source(name, "llava", records, {}), pictures, intake)
        checked.append(to_dataframe(arrivals))
    checkpoint = Checkpoint(PROJECT / "src/adapt_infinity/embedded/checkpoint")
    model = ModelParams(
        device="cpu", dtype="float32", max_tokens=512, adapter_rank=16, adapter_alpha=32, adapter_targets=TARGETS
    )
    training = training_params(epochs=1, token_budget=TOKENS, cache_mb=0)
    adapter, _, _ = warm_up_adapter(
        parquet.in_memory(checked[0], SAMPLE_SCHEMA),
        pictures,
        checkpoint,
        model,
        training,
        WarmUpParams(samples=32, epochs=1),
    )
    pool = pd.concat(checked, ignore_index=True).head(rows)
    samples = samples_of(pool.assign(sample_id=range(len(pool))))
    return samples, ProbeJob(
        base=checkpoint,
        adapter=adapter,
        model=model,
        pictures=pictures,
        spec=SPEC,
        fingerprint="benchmark",
        folder=folder / "shards",
        token_budget=TOKENS,
        memory_mb=0,
        window=rows,
        loaders=0,
        threads=0,
        image_cache_mb=0,
    )


@contextmanager
def trainable(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within this context, these weights need gradients; afterwards they do not."""
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(False)

"""Readings that only some experts ask for: the pool by a reference model, validation samples by this one.

Both go through the probe, so what it has read it does not read again. Where no expert asks, nothing is read.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.features.probe import ProbeParams, probe_pool
from adapt_infinity.features.store import ProbeStore
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, whole
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader
from adapt_infinity.model.lora import Adapter, read_adapter
from adapt_infinity.model.prompts import PromptCheck
from adapt_infinity.pool.pool import Part, Pool
from adapt_infinity.selector_experts.scoring import SelectorParams


def read_reference(
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    probe_store: ProbeStore,
    model_params: ModelParams,
    probe_params: ProbeParams,
    params: SelectorParams,
    round: int,
) -> pd.DataFrame:
    """Loss of every pool sample under `selector_experts.reference`: sample_id, nll. Empty unless learnability competes.

    A forward pass without gradients. Its shards stay in the probe's store: in later rounds only arrivals are read.
    """
    if "learnability" not in params.experts:
        return pd.DataFrame({"sample_id": np.zeros(0, np.int64), "nll": np.zeros(0)})
    folder = Path(params.reference)
    if not folder.is_dir():
        raise ValueError(f"selector_experts.reference: there is no folder {folder}")
    forward_only = replace(
        probe_params, feature="embedding", image_grounding=False, reuse="exact", proxy="", proxy_adapter=""
    )
    adapter = read_adapter(folder)
    stream = probe_pool(pool, pictures, base_model, adapter, probe_store, model_params, forward_only, round)
    losses = [rows.scores["nll"] for _, rows, _ in stream.blocks()]
    return pd.DataFrame({"sample_id": stream.sample_ids, "nll": np.concatenate(losses)})


def read_targets(
    validation_sources: Sequence[Source],
    pictures: Pictures,
    base_model: Checkpoint,
    previous_adapter: Adapter,
    probe_store: ProbeStore,
    intake_params: IntakeParams,
    model_params: ModelParams,
    probe_params: ProbeParams,
    params: SelectorParams,
    round: int,
) -> pd.DataFrame:
    """Each skill's direction: the mean gradient feature of its validation samples. Empty unless influence competes.

    Columns: skill, samples, tokens (of these together), direction (`probe.dim` numbers). The same samples are read in
    every round: `targets_per_skill` of each skill, drawn by the seed. `ValueError` when no source has a `validation`
    file.
    """
    if "influence" not in params.experts:
        none = dict.fromkeys(("samples", "tokens"), np.zeros(0, np.int64))
        return pd.DataFrame({"skill": pd.Series([], dtype="str"), **none, "direction": []})
    if not validation_sources:
        raise ValueError("selector_experts.experts names 'influence', but no source has a `validation` file")
    check = PromptCheck(load_reader(base_model, model_params), pictures)
    checked = [check_records(source, pictures, intake_params, readable=check)[0] for source in validation_sources]
    rows = pd.concat([whole(arrivals) for arrivals in checked], ignore_index=True)
    drawn = rows.sample(frac=1, random_state=params.seed).groupby("skill").head(params.targets_per_skill).sort_index()
    drawn = drawn.assign(sample_id=np.arange(len(drawn)))
    read = Pool((Part(0, parquet.in_memory(drawn, SAMPLE_SCHEMA)),))
    once = replace(probe_params, image_grounding=False)
    stream = probe_pool(read, pictures, base_model, previous_adapter, probe_store, model_params, once, round)
    blocks = [rows for _, rows, _ in stream.blocks()]
    gradients = np.concatenate([rows.features.astype(np.float32) for rows in blocks])
    tokens = np.concatenate([rows.scores["tokens"] for rows in blocks])
    stream.discard_shards()  # the adapter that read them is another one in the next round
    skills, code, counts = np.unique(drawn["skill"].to_numpy(dtype=object), return_inverse=True, return_counts=True)
    sums = np.zeros((len(skills), gradients.shape[1]))
    np.add.at(sums, code, gradients)
    means = (sums / counts[:, None]).astype(np.float32)
    read_tokens = np.bincount(code, weights=tokens, minlength=len(skills)).astype(np.int64)
    return pd.DataFrame(
        {"skill": pd.Series(skills, dtype="str"), "samples": counts, "tokens": read_tokens, "direction": list(means)}
    )

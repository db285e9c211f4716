"""Readings that only some comparisons need: the pool with a reference adapter, validation samples with the current one.

A comparison lists the reading that it needs in `NEEDS` (comparisons/). If no expert needs a reading, no model is run
and the table has no rows. Both readings use the probe, so samples that it has read before are not read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adapt_infinity.data import parquet
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import SAMPLE_SCHEMA
from adapt_infinity.features.probe import ProbeParams, probe_pool
from adapt_infinity.features.store import FeatureStream, ProbeStore
from adapt_infinity.intake.reading import IntakeParams, Source, check_records, to_dataframe
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader
from adapt_infinity.model.lora import Adapter, read_adapter
from adapt_infinity.model.prompts import PromptCheck
from adapt_infinity.pool.pool import Part, Pool
from adapt_infinity.selector_experts import comparisons
from adapt_infinity.selector_experts.scoring import SelectorParams


@dataclass(frozen=True)
class ProbeSetup:
    """What a reading by the probe needs, except for the samples."""

    pictures: Pictures
    base_model: Checkpoint
    adapter: Adapter
    store: ProbeStore
    model_params: ModelParams
    probe_params: ProbeParams
    round: int

    def read(self, samples: Pool, **changes: Any) -> FeatureStream:
        """Read the samples, with some fields of `probe_params` changed."""
        params = replace(self.probe_params, **changes)
        return probe_pool(
            samples, self.pictures, self.base_model, self.adapter, self.store, self.model_params, params, self.round
        )


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
    """The loss of every pool sample under the adapter `selector_experts.reference`: sample_id, nll (per answer token).

    Without rows unless an expert needs `reference_scores`. The model only runs forward. The losses stay in the probe's
    store, so later rounds read only new samples. `ValueError` if the adapter's folder does not exist.
    """
    if not comparisons.needing("reference_scores", params.experts):
        return pd.DataFrame({"sample_id": np.zeros(0, np.int64), "nll": np.zeros(0)})
    folder = Path(params.reference)
    if not folder.is_dir():
        raise ValueError(f"selector_experts.reference: there is no folder {folder}")
    setup = ProbeSetup(pictures, base_model, read_adapter(folder), probe_store, model_params, probe_params, round)
    forward_only = {
        "feature": "embedding",
        "image_grounding": False,
        "reuse": "exact",
        "proxy": "",
        "proxy_adapter": "",
    }
    stream = setup.read(pool, **forward_only)
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
    """The mean gradient of each skill's validation samples: skill, samples, tokens, direction.

    samples: how many were read; tokens: their total; direction: `probe.dim` numbers. Without rows unless an expert
    needs `targets`. Every round reads the same samples: `targets_per_skill` of each skill, drawn by the seed.
    `ValueError` if no source has a `validation` file.
    """
    needing = comparisons.needing("targets", params.experts)
    if not needing:
        none = dict.fromkeys(("samples", "tokens"), np.zeros(0, np.int64))
        return pd.DataFrame({"skill": pd.Series([], dtype="str"), **none, "direction": []})
    if not validation_sources:
        raise ValueError(f"selector_experts.experts names {needing[0]!r}, but no source has a `validation` file")
    check = PromptCheck(load_reader(base_model, model_params), pictures)
    checked = [check_records(source, pictures, intake_params, check_sample=check)[0] for source in validation_sources]
    rows = pd.concat([to_dataframe(arrivals) for arrivals in checked], ignore_index=True)
    setup = ProbeSetup(pictures, base_model, previous_adapter, probe_store, model_params, probe_params, round)
    return _mean_gradients(_draw_per_skill(rows, params), setup)


def _draw_per_skill(rows: pd.DataFrame, params: SelectorParams) -> pd.DataFrame:
    """`targets_per_skill` random rows of each skill, numbered in their order."""
    drawn = rows.sample(frac=1, random_state=params.seed).groupby("skill").head(params.targets_per_skill).sort_index()
    return drawn.assign(sample_id=np.arange(len(drawn)))


def _mean_gradients(rows: pd.DataFrame, setup: ProbeSetup) -> pd.DataFrame:
    """The table of `read_targets` for these validation samples."""
    stream = setup.read(Pool((Part(0, parquet.in_memory(rows, SAMPLE_SCHEMA)),)), image_grounding=False)
    blocks = [block for _, block, _ in stream.blocks()]
    gradients = np.concatenate([block.features.astype(np.float32) for block in blocks])
    tokens = np.concatenate([block.scores["tokens"] for block in blocks])
    stream.discard_shards()  # the next round reads the samples with another adapter
    skills, code, counts = np.unique(rows["skill"].to_numpy(dtype=object), return_inverse=True, return_counts=True)
    sums = np.zeros((len(skills), gradients.shape[1]))
    np.add.at(sums, code, gradients)
    means = (sums / counts[:, None]).astype(np.float32)
    totals = np.bincount(code, weights=tokens, minlength=len(skills)).astype(np.int64)
    return pd.DataFrame(
        {"skill": pd.Series(skills, dtype="str"), "samples": counts, "tokens": totals, "direction": list(means)}
    )

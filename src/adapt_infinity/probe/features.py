"""One reading of the pool by the current model: gradient features, scores and embeddings in a single pass.

METHOD section 2 defines the quantities; PERFORMANCE explains the order of work. Rows are read in windows of the pool,
bucketed by length inside a window, and handed on window by window: memory is bounded by a window, not by the pool.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from adapt_infinity.model import Adapter, Checkpoint, ModelParams, Vlm, load_vlm
from adapt_infinity.pictures import Pictures
from adapt_infinity.pool import Pool
from adapt_infinity.probe.reading import Reading, nll_without_image, read_batch
from adapt_infinity.probe.spec import VERSION, Spec
from adapt_infinity.prompts import batches, collate, encode, pad_token
from adapt_infinity.sample import Sample, samples_of

STORED = np.float16  # unit rows: 11 bits are far finer than the sketch's own spread


@dataclass(frozen=True, kw_only=True)
class ProbeParams:
    """params:probe."""

    layer: int  # decoder layer whose LoRA gradients are the features; -1 = the middle one
    embedding_layer: int  # decoder layer whose output is the embedding; -1 = the last one
    dim: int  # width of a gradient feature
    token_budget: int  # tokens in a batch, padding included
    window: int  # rows read, bucketed and written together

    def __post_init__(self) -> None:
        for name in ("dim", "token_budget", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"probe.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class FeatureBlock:
    """The rows of one window, in pool order. `first` is the place of its first row."""

    first: int
    gradients: Float[np.ndarray, "rows dim"]
    embeddings: Float[np.ndarray, "rows width"]
    scores: pd.DataFrame


@dataclass(frozen=True)
class FeatureStream:
    """What the probe hands to a dataset, which drains `blocks` to disk: the pool is being read meanwhile."""

    sample_ids: Int[np.ndarray, " rows"]
    dim: int
    width: int
    spec: Mapping[str, Any]
    blocks: Iterator[FeatureBlock]


@dataclass(frozen=True)
class Features:
    """What the dataset gives back: unit rows in pool order (memory-mapped) and the table of scores."""

    sample_ids: Int[np.ndarray, " rows"]
    gradients: Float[np.ndarray, "rows dim"]
    embeddings: Float[np.ndarray, "rows width"]
    scores: pd.DataFrame
    spec: Mapping[str, Any]


def probe_pool(
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    previous_adapter: Adapter,
    model_params: ModelParams,
    params: ProbeParams,
) -> FeatureStream:
    """Read every row of the pool with the model as it is now. Nothing is computed until the stream is drained."""
    vlm = load_vlm(base_model, model_params, previous_adapter)
    layer = _layer(params.layer, len(vlm.layers), len(vlm.layers) // 2, "probe.layer")
    embedding_layer = _layer(params.embedding_layer, len(vlm.layers), len(vlm.layers) - 1, "probe.embedding_layer")
    return FeatureStream(
        sample_ids=pool.index["sample_id"].to_numpy(np.int64),
        dim=params.dim,
        width=vlm.base.config.get_text_config().hidden_size,
        spec={**asdict(params), "layer": layer, "embedding_layer": embedding_layer, "version": VERSION},
        blocks=_read(vlm, pool, pictures, params, layer, embedding_layer),
    )


def _read(
    vlm: Vlm, pool: Pool, pictures: Pictures, params: ProbeParams, layer: int, embedding_layer: int
) -> Iterator[FeatureBlock]:
    first = 0
    with tqdm(total=len(pool), desc="probing", unit="row", disable=None) as bar:
        for rows in pool.windows(params.window):
            yield read_window(vlm, samples_of(rows), pictures, params, first, layer, embedding_layer)
            first += len(rows)
            bar.update(len(rows))


def read_window(
    vlm: Vlm,
    samples: Sequence[Sample],
    pictures: Pictures,
    params: ProbeParams,
    first: int,
    layer: int,
    embedding_layer: int,
) -> FeatureBlock:
    """Features, embeddings and scores of some samples, in their order."""
    whole = [encode(vlm, sample, pictures) for sample in samples]
    bare = [encode(vlm, sample.without_images(), pictures) if sample.images else None for sample in samples]
    nll_bare = nll_without_image(vlm, bare, params.token_budget)
    spec = Spec(
        feature="gradient",
        layers=(layer,),
        embedding_layer=embedding_layer,
        dim=params.dim,
        gradient="sgd",
        sketch="segments",
    )
    gradients = np.empty((len(samples), params.dim), STORED)
    embeddings: np.ndarray | None = None
    columns: dict[str, np.ndarray] = {}
    for places in batches([len(row) for row in whole], params.token_budget):
        batch = collate([whole[place] for place in places], pad_token(vlm))
        reading = read_batch(vlm, batch, nll_bare[places], spec)
        _refuse_empty(reading, [samples[place].sample_id for place in places])
        if embeddings is None:
            embeddings = np.empty((len(samples), reading.embeddings.shape[1]), STORED)
            columns = {name: np.empty(len(samples)) for name in reading.scores}
        gradients[places] = _unit(reading.features).numpy()
        embeddings[places] = _unit(reading.embeddings).numpy()
        for name, values in reading.scores.items():
            columns[name][places] = values.numpy()
    assert embeddings is not None, "a window has at least one row"
    table = pd.DataFrame({"sample_id": [sample.sample_id for sample in samples], **columns})
    return FeatureBlock(first, gradients, embeddings, table.astype({"answer_tokens": np.int32}))


def _unit(rows: Float[Tensor, "rows width"]) -> Tensor:
    return (rows / rows.norm(dim=1, keepdim=True)).to(torch.float16)


def _refuse_empty(reading: Reading, sample_ids: list[int]) -> None:
    """A zero or non-finite gradient has no direction: the samples are named instead of becoming NaN rows."""
    norms = reading.scores["grand"]
    bad = ~torch.isfinite(norms) | (norms == 0)
    if bad.any():
        named = [sample_id for sample_id, is_bad in zip(sample_ids, bad.tolist(), strict=True) if is_bad]
        raise ValueError(f"no usable gradient for samples {named[:5]}: the loss or its gradient is zero or not finite")


def _layer(asked: int, count: int, default: int, key: str) -> int:
    chosen = default if asked == -1 else asked
    if not 0 <= chosen < count:
        raise ValueError(f"{key} must lie in 0..{count - 1} or be -1, got {asked}")
    return chosen

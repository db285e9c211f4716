"""Modality embeddings of the pool, for strategies that prune it before the probe: no decoder layer runs."""

import numpy as np
import pandas as pd

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.features.probe import ProbeParams
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.modality_embeddings import embed_modalities
from adapt_infinity.model.prompts import encode
from adapt_infinity.pool.pool import Pool


def embed_modalities_of_pool(
    joined_pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    model_params: ModelParams,
    probe_params: ProbeParams,
) -> pd.DataFrame:
    """One row per sample: `sample_id` and `vector`, the unit vector of its image, instruction and answer embeddings.

    See `model/modality_embeddings.py`. The vector is a float16 array of three times the model's hidden size.
    """
    vlm = load_vlm(base_model, model_params)
    found = []
    for window in joined_pool.windows(probe_params.window):
        samples = samples_of(window)
        encoded = [encode(vlm, sample, pictures) for sample in samples]
        rows = embed_modalities(vlm, encoded, probe_params.token_budget).joined().numpy().astype(np.float16)
        found.append(pd.DataFrame({"sample_id": [sample.sample_id for sample in samples], "vector": list(rows)}))
    return pd.concat(found, ignore_index=True)

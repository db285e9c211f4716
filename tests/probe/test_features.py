"""One reading of the pool: rows in pool order, the same whatever the batches."""

import numpy as np
import pandas as pd
import pytest
import torch

from adapt_infinity import experts
from adapt_infinity.intake import Source
from adapt_infinity.model import Adapter, Checkpoint, ModelParams, load_vlm, new_adapter
from adapt_infinity.pictures import Pictures
from adapt_infinity.pool import Pool, join_pool
from adapt_infinity.probe.features import FeatureBlock, ProbeParams, probe_pool
from tests.conftest import checked, unread

PARAMS = ProbeParams(layer=-1, embedding_layer=-1, dim=256, token_budget=400, window=5)


@pytest.fixture(scope="module")
def pool(toy_source: Source, pictures: Pictures) -> Pool:
    return join_pool(Pool(), unread(checked(toy_source, pictures)[0]), 1)


@pytest.fixture(scope="module")
def read(pool: Pool, pictures: Pictures, base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams):  # type: ignore[no-untyped-def]
    def with_params(params: ProbeParams) -> FeatureBlock:
        stream = probe_pool(pool, pictures, base_model, warm_adapter, model_params, params)
        blocks = list(stream.blocks)
        assert [block.first for block in blocks] == list(range(0, len(pool), params.window))
        return FeatureBlock(
            0,
            np.concatenate([block.gradients for block in blocks]),
            np.concatenate([block.embeddings for block in blocks]),
            pd.concat([block.scores for block in blocks], ignore_index=True),
        )

    return with_params


def test_every_row_has_unit_features_and_every_score(read, pool: Pool) -> None:  # type: ignore[no-untyped-def]
    made = read(PARAMS)
    assert made.scores["sample_id"].tolist() == pool.rows()["sample_id"].tolist()
    assert set(experts.names()) <= set(made.scores.columns)
    assert np.isfinite(made.scores.to_numpy(float)).all()
    for rows in (made.gradients, made.embeddings):
        assert np.linalg.norm(rows.astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)


def test_batches_and_windows_change_nothing(read) -> None:  # type: ignore[no-untyped-def]
    usual = read(PARAMS)
    one_by_one = read(ProbeParams(layer=-1, embedding_layer=-1, dim=256, token_budget=1, window=8))
    assert np.abs(usual.gradients.astype(np.float32) - one_by_one.gradients).max() <= 1e-3  # one step of fp16
    pd.testing.assert_frame_equal(usual.scores, one_by_one.scores, rtol=1e-4, atol=1e-5)


def test_scores_are_what_method_says(read, pool: Pool) -> None:  # type: ignore[no-untyped-def]
    scores = read(PARAMS).scores
    assert scores["perplexity"].to_numpy() == pytest.approx(np.exp(scores["nll"].to_numpy()), rel=1e-4)
    without_pictures = pool.rows()["images"].map(len).to_numpy() == 0
    assert without_pictures.sum() == 2
    assert (scores["image_grounding"].to_numpy()[without_pictures] == 0).all()
    assert (scores["image_grounding"].to_numpy()[~without_pictures] != 0).all()


def test_a_fresh_adapter_has_gradients_in_b_only_and_is_read_all_the_same(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, model_params: ModelParams
) -> None:
    fresh = new_adapter(load_vlm(base_model, model_params), model_params, seed=0)
    (block, *_) = probe_pool(pool, pictures, base_model, fresh, model_params, PARAMS).blocks
    assert (block.scores["grand"] > 0).all()


@pytest.mark.parametrize(("layer", "message"), [(9, r"probe.layer must lie in 0..3 or be -1, got 9"), (-2, "got -2")])
def test_a_layer_that_is_not_there_is_named(
    layer: int,
    message: str,
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    warm_adapter: Adapter,
    model_params: ModelParams,
) -> None:
    params = ProbeParams(layer=layer, embedding_layer=-1, dim=8, token_budget=9, window=9)
    with pytest.raises(ValueError, match=message):
        probe_pool(pool, pictures, base_model, warm_adapter, model_params, params)


def test_a_sample_without_gradient_is_named() -> None:
    from adapt_infinity.probe.features import _refuse_empty
    from adapt_infinity.probe.reading import Reading

    reading = Reading(torch.zeros(2, 4), torch.zeros(2, 4), {"grand": torch.tensor([1.0, float("nan")])})
    with pytest.raises(ValueError, match=r"no usable gradient for samples \[8\]"):
        _refuse_empty(reading, [7, 8])

"""Training: only the adapter learns, every sample is seen once an epoch, and the same seed gives the same weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt_infinity.intake import Source
from adapt_infinity.model import Adapter, Checkpoint, ModelParams, detach, load_vlm
from adapt_infinity.pictures import Pictures
from adapt_infinity.pool import Pool, join_pool
from adapt_infinity.prompts import encode
from adapt_infinity.sample import samples_of
from adapt_infinity.training.finetune import (
    TrainingParams,
    WarmUpParams,
    _step,
    cosine,
    epoch_batches,
    finetune,
    train_adapter,
    warm_up_adapter,
)
from tests.conftest import checked, unread

PARAMS = TrainingParams(
    learning_rate=5e-3,
    projector="multi_modal_projector",
    projector_learning_rate=1e-3,
    epochs=8,
    batch_size=4,
    token_budget=300,
    warm_up=0.1,
    weight_decay=0.0,
    max_norm=1.0,
    cache_mb=1,
    seed=0,
)


@pytest.fixture(scope="module")
def pool(toy_source: Source, pictures: Pictures) -> Pool:
    return join_pool(Pool(), unread(checked(toy_source, pictures)[0]), 1)


def chosen(pool: Pool, count: int):  # type: ignore[no-untyped-def]
    return pool.index[["sample_id"]].assign(selected=np.arange(len(pool)) < count)


def test_the_adapter_learns_and_nothing_else(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams
) -> None:
    trained, log = train_adapter(
        pool, chosen(pool, 6), pictures, base_model, warm_adapter, model_params, PARAMS, round=3
    )
    assert len(log) == 8 * 2  # epochs times steps
    assert log["samples"].sum() == 8 * 6
    assert log["loss"].iloc[-2:].mean() < 0.5 * log["loss"].iloc[:2].mean()
    assert all(not torch.equal(tensor, warm_adapter.tensors[name]) for name, tensor in trained.tensors.items())
    assert trained.record == {"policy": "continue", "rounds": [3], "steps": 16, "moment_steps": 16}
    assert {name.rsplit(".", 1)[1] for name in trained.moments} == {"exp_avg", "exp_avg_sq"}
    assert all(moment.abs().sum() > 0 for moment in trained.moments.values())
    forgetful = TrainingParams(**{**vars(PARAMS), "cache_mb": 0})
    again, _ = train_adapter(
        pool, chosen(pool, 6), pictures, base_model, warm_adapter, model_params, forgetful, round=3
    )
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in trained.tensors.items())


def test_the_base_stays_as_it_is(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams
) -> None:
    vlm = load_vlm(base_model, model_params, warm_adapter)
    before = {name: value.clone() for name, value in vlm.model.named_parameters() if "lora_" not in name}
    finetune(vlm, samples_of(pool.rows().head(4)), pictures, PARAMS, 1)
    assert all(torch.equal(value, before[name]) for name, value in vlm.model.named_parameters() if name in before)


def test_micro_batches_change_nothing(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams
) -> None:
    found = []
    for token_budget in (1, 10_000):
        vlm = load_vlm(base_model, model_params, warm_adapter)
        lora = [value.requires_grad_(True) for name, value in vlm.model.named_parameters() if "lora_" in name]
        rows = [encode(vlm, sample, pictures) for sample in samples_of(pool.rows())]
        params = TrainingParams(**{**vars(PARAMS), "token_budget": token_budget, "max_norm": 1e9})
        loss = _step(vlm, rows, params)
        found.append((loss, torch.cat([value.grad.flatten() for value in lora if value.grad is not None])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert (found[0][1] - found[1][1]).norm() <= 1e-4 * found[1][1].norm()


def test_warm_up_gives_every_b_a_value(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, model_params: ModelParams
) -> None:
    warm, log = warm_up_adapter(
        pool.shards[0].rows, pictures, base_model, model_params, PARAMS, WarmUpParams(samples=5, epochs=1)
    )
    assert log["samples"].sum() == 5
    assert all(tensor.abs().max() > 0 for name, tensor in warm.tensors.items() if "lora_B" in name)


def test_a_subset_that_names_strangers_is_refused(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams
) -> None:
    subset = chosen(pool, 2)
    subset["sample_id"] += 1000
    with pytest.raises(ValueError, match="the subset names 2 samples that are not in the pool"):
        train_adapter(pool, subset, pictures, base_model, warm_adapter, model_params, PARAMS, round=1)


def test_a_ruinous_rate_is_named(
    pool: Pool, pictures: Pictures, base_model: Checkpoint, warm_adapter: Adapter, model_params: ModelParams
) -> None:
    broken = Adapter(
        warm_adapter.config,
        {name: tensor * float("inf") for name, tensor in warm_adapter.tensors.items()},
        warm_adapter.record,
    )
    vlm = load_vlm(base_model, model_params, broken)
    samples = samples_of(pool.rows().head(2))
    with pytest.raises(ValueError, match=r"training.learning_rate 0.005 may be too high"):
        finetune(vlm, samples, pictures, PARAMS, 1)
    assert detach(vlm, {}).tensors  # the model is still a model


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_an_epoch_takes_every_sample_once(lengths: list[int], batch_size: int, epoch: int) -> None:
    gathered = epoch_batches(lengths, batch_size, seed=0, epoch=epoch)
    assert sorted(place for places in gathered for place in places) == list(range(len(lengths)))
    assert len(gathered) == -(-len(lengths) // batch_size)
    assert gathered == epoch_batches(lengths, batch_size, seed=0, epoch=epoch)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [cosine(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_parameters_name_key_and_value() -> None:
    with pytest.raises(ValueError, match=r"training.learning_rate must be greater than 0, got 0"):
        TrainingParams(**{**vars(PARAMS), "learning_rate": 0.0})

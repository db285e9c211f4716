"""Readings that only some comparisons need: with a reference adapter, and of validation samples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import samples_of
from adapt_infinity.datasets.features import ProbeStoreDataset
from adapt_infinity.features.batch_reading import read_losses
from adapt_infinity.features.store import ProbeStore
from adapt_infinity.intake.reading import Source
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.lora import Adapter, write_adapter
from adapt_infinity.model.prompts import collate, encode, pad_token
from adapt_infinity.pool.pool import Pool, join_pool
from adapt_infinity.selector_experts.reference_reading import read_reference, read_targets
from adapt_infinity.selector_experts.scoring import SelectorParams
from tests.conftest import INTAKE, checked, unread
from tests.features.test_probe import PARAMS, moved
from tests.selector_experts.test_choosing import params


@pytest.fixture(scope="module")
def pool(toy_source: Source, pictures: Pictures) -> Pool:
    return join_pool(Pool(), unread(checked(toy_source, pictures)[0]), 1)


@pytest.fixture
def store(tmp_path: Path) -> ProbeStore:
    return ProbeStoreDataset(filepath=str(tmp_path / "probe")).load()


def test_the_reference_reads_each_sample_only_once(
    tmp_path: Path,
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    warm_adapter: Adapter,
    model_params: ModelParams,
    store: ProbeStore,
) -> None:
    other = moved(warm_adapter, 0.3)
    write_adapter(other, tmp_path / "reference")
    given_params = params(["el2n", "learnability"], reference=str(tmp_path / "reference"))
    given = (pool, pictures, base_model, store, model_params, PARAMS, given_params)
    table = read_reference(*given, 1)
    vlm = load_vlm(base_model, model_params, other)
    for sample, nll in zip(samples_of(pool.rows()), table["nll"], strict=True):
        alone = read_losses(vlm, collate([encode(vlm, sample, pictures)], pad_token(vlm)))
        assert nll == pytest.approx(alone.item(), rel=1e-4)
    written = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.safetensors")}
    assert written
    assert read_reference(*given, 2).equals(table)
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.safetensors")} == written


def test_the_direction_of_a_skill_is_the_mean_of_its_validation_rows(
    pictures: Pictures,
    toy_source: Source,
    base_model: Checkpoint,
    warm_adapter: Adapter,
    model_params: ModelParams,
    store: ProbeStore,
) -> None:
    given_params = params(["influence"], targets_per_skill=1)
    given = ([toy_source], pictures, base_model, warm_adapter, store, INTAKE, model_params, PARAMS)
    table = read_targets(*given, given_params, 1)
    assert set(table["skill"]) == set(toy_source.graders)
    assert (table["samples"] == 1).all()
    assert [np.linalg.norm(row) for row in table["direction"]] == pytest.approx([1.0] * len(table), abs=2e-3)
    more = read_targets(*given, replace(given_params, targets_per_skill=9), 1)
    counts = more.set_index("skill")["samples"]
    assert counts.sum() == len(list(toy_source.records))
    assert (counts[counts > 1].index.isin(["caption", "compare", "talk"])).all()
    assert not list(store.folder.rglob("*.safetensors"))


def test_nothing_is_read_unless_an_expert_needs_it(
    pool: Pool,
    pictures: Pictures,
    base_model: Checkpoint,
    warm_adapter: Adapter,
    model_params: ModelParams,
    store: ProbeStore,
) -> None:
    given_params = params(["el2n"])
    assert read_reference(pool, pictures, base_model, store, model_params, PARAMS, given_params, 1).empty

    def targets(given_params: SelectorParams) -> pd.DataFrame:
        given = (pictures, base_model, warm_adapter, store, INTAKE, model_params, PARAMS)
        return read_targets([], *given, given_params, 1)

    assert targets(given_params).empty
    assert not store.folder.exists()
    with pytest.raises(ValueError, match="names 'influence', but no source has a `validation` file"):
        targets(params(["influence"]))
    missing = params(["learnability"], reference="nowhere")
    with pytest.raises(ValueError, match=r"selector_experts.reference: there is no folder nowhere"):
        read_reference(pool, pictures, base_model, store, model_params, PARAMS, missing, 1)

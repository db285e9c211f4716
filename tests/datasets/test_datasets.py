"""Datasets: loading returns what was saved, and a changed file is an error."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io.core import Version
from matplotlib.figure import Figure

from adapt_infinity.datasets import (
    AdapterDataset,
    CheckpointDataset,
    FigureDataset,
    PicturesDataset,
    PoolDataset,
    SourcesDataset,
    TableDataset,
)
from adapt_infinity.kedro_internals import load_path
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_vlm
from adapt_infinity.model.lora import Adapter
from adapt_infinity.pool.pool import Pool, join_pool, remove
from tests.conftest import unread
from tests.pool.test_pool import arrivals, removals

NOW = Version(None, "2026-01-01T00.00.00.000Z")


def test_tables_and_figures_have_previews(tmp_path: Path) -> None:
    table = TableDataset(filepath=str(tmp_path / "t.parquet"), version=NOW)
    table.save(pd.DataFrame({"a": [1, 2], "b": [[1], []]}))
    assert table.load()["a"].tolist() == [1, 2]
    assert table.preview()["columns"] == ["a", "b"]
    figure = FigureDataset(filepath=str(tmp_path / "f.png"), version=NOW)
    figure.save(Figure())
    assert figure.load().startswith(b"\x89PNG")
    assert len(figure.preview()) > 100


def test_past_pools_can_be_loaded_and_share_their_parts(tmp_path: Path) -> None:
    first = remove(join_pool(Pool(), unread(arrivals("a", 3)), 1), removals([1]), 1)
    second = join_pool(first, unread(arrivals("b", 2, first_id=3)), 2)
    for number, pool in enumerate([first, second], start=1):
        PoolDataset(filepath=str(tmp_path / f"round_{number}/pool.json"), version=NOW).save(pool)
    assert len(list((tmp_path / "pool").iterdir())) == 3  # two shards and one part of the ledger
    for number, pool in enumerate([first, second], start=1):
        loaded = PoolDataset(filepath=str(tmp_path / f"round_{number}/pool.json"), version=NOW).load()
        assert loaded.fetch(np.arange(loaded.size)) == pool.fetch(np.arange(pool.size))
        assert loaded.present.tolist() == pool.present.tolist()
        assert loaded.ledger_table.equals(pool.ledger_table)


def test_altered_shard_is_an_error(tmp_path: Path) -> None:
    dataset = PoolDataset(filepath=str(tmp_path / "round_1/pool.json"), version=NOW)
    dataset.save(join_pool(Pool(), unread(arrivals("a", 3)), 1))
    (shard,) = (tmp_path / "pool").iterdir()
    shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(Exception, match="has been altered"):
        dataset.load()


def test_peft_loads_the_adapter_folder(
    tmp_path: Path, warm_adapter: Adapter, base_model: Checkpoint, model_params: ModelParams
) -> None:
    from peft import PeftModel

    dataset = AdapterDataset(filepath=str(tmp_path / "adapter"), version=NOW)
    dataset.save(warm_adapter)
    loaded = dataset.load()
    assert loaded.record == warm_adapter.record
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in warm_adapter.tensors.items())
    ours = load_vlm(base_model, model_params, loaded)
    theirs = PeftModel.from_pretrained(load_vlm(base_model, model_params).model, str(load_path(dataset)))
    tokens = torch.arange(5, 15).unsqueeze(0)
    with torch.no_grad():
        assert torch.equal(ours.model(input_ids=tokens).logits, theirs.eval()(input_ids=tokens).logits)
    suffixes = {path.suffix for path in load_path(dataset).iterdir()}
    assert suffixes <= {".json", ".safetensors", ".md"}  # never a pickle


def test_errors_of_sources_name_the_cause(tmp_path: Path) -> None:
    sources = [{"name": "a", "format": "llava", "train": "a.json", "test": "t.json", "graders": {"s": "exact"}}]

    def split(name: str, round: int | None) -> SourcesDataset:
        return SourcesDataset(filepath=str(tmp_path), sources=sources, split=name, round=round)

    with pytest.raises(Exception, match=r"source 'a': there is no file"):
        split("train", 1).load()
    (tmp_path / "a.json").write_text("{}")
    (source,) = split("train", 1).load()
    assert [record.reason for record in source.records] == ["the file is not a list of records"]
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps([{"id": 1}]), encoding="utf-8")
    (source,) = split("train", 1).load()
    assert (source.name, list(source.records), source.graders) == ("a", [{"id": 1}], {"s": "exact"})
    assert source.repairs == ("byte order mark skipped",)
    with pytest.raises(Exception, match="1 arrivals; round 2 has none"):
        split("train", 2).load()


def test_pictures_are_below_the_data_folder(tmp_path: Path) -> None:
    sources = [{"name": "a"}, {"name": "b", "pictures": "elsewhere"}]
    pictures = PicturesDataset(filepath=str(tmp_path), sources=sources, max_pixels=9).load()
    assert pictures.roots == {"a": tmp_path, "b": tmp_path / "elsewhere"}


def test_error_names_the_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no checkpoint in"):
        CheckpointDataset(filepath=str(tmp_path)).load()
    with pytest.raises(ValueError, match="either filepath"):
        CheckpointDataset()
    assert CheckpointDataset(hub="owner/name").load() == Checkpoint("owner/name")

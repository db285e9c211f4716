"""The pipeline on real datasets: photos, charts, receipts, captions in four languages, school maths; else skipped."""

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import yaml

from adapt_infinity.benchmarks import graders
from adapt_infinity.data.pictures import Pictures
from adapt_infinity.datasets import PicturesDataset, SourcesDataset
from adapt_infinity.export import export_samples
from adapt_infinity.intake.reading import Source
from adapt_infinity.intake.records import Records
from adapt_infinity.model.checkpoint import Checkpoint, ModelParams, load_reader
from adapt_infinity.model.prompts import PromptCheck
from tests.conftest import PROJECT, checked, intake
from tests.pipelines.conftest import SMALL
from tests.pipelines.running import entry, kedro

FOLDER = os.environ.get("ADAPT_INFINITY_REALDATA", "")
SOURCES = yaml.safe_load((PROJECT / "conf/realdata/globals.yml").read_text())["sources"]
NAMES = [source["name"] for source in SOURCES]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(FOLDER or "nowhere").is_dir(),
        reason="ADAPT_INFINITY_REALDATA does not name the folder of real datasets",
    ),
]


def load(name: str, split: str):  # type: ignore[no-untyped-def]
    (source,) = SourcesDataset(
        filepath=FOLDER, sources=[one for one in SOURCES if one["name"] == name], split=split
    ).load()
    return source, PicturesDataset(filepath=FOLDER, sources=SOURCES, max_pixels=10**7).load()


@pytest.mark.parametrize("name", NAMES)
def test_real_records_pass_intake(name: str, base_model: Checkpoint, model_params: ModelParams) -> None:
    source, pictures = load(name, "train")
    first_records = replace(source, records=islice(source.records, 40), expected=None)
    reader = load_reader(base_model, replace(model_params, max_tokens=1024))
    params = intake(max_text=100_000, max_reject_share=0.05)
    arrivals, rejects = checked(first_records, pictures, params, check_sample=PromptCheck(reader, pictures))
    assert len(arrivals) >= 38
    assert len(arrivals) + len(rejects) == 40


@pytest.mark.parametrize("name", NAMES)
def test_every_real_record_is_read_and_survives_export(name: str, tmp_path: Path) -> None:
    """All records are read; exported test splits are read unchanged (benchmarks/round_trip.py tries all)."""
    for split in ("train", "test"):
        source, pictures = load(name, split)
        source = replace(source, records=Records(source.records.path), expected=None)
        rows, rejects = checked(source, pictures, intake(max_text=100_000))
        assert len(rows) + len(rejects) == sum(1 for _ in source.records)
        assert rejects.empty  # these datasets have no bad records
    export_samples([rows], pictures, "llava", tmp_path / "out")
    exported = Source(name, "llava", Records(tmp_path / "out/data.json"), {})
    again, _ = checked(exported, Pictures({name: tmp_path / "out"}, 10**8), intake(max_text=100_000))
    assert again[["source_id", "skill", "content_hash"]].equals(rows[["source_id", "skill", "content_hash"]])


@pytest.mark.parametrize("name", NAMES)
def test_reference_answers_have_score_one(name: str) -> None:
    source, _ = load(name, "test")
    for record in islice(source.records, 60):
        reference = record["conversations"][-1]["value"]
        assert graders.load(source.graders[record["task"]])(reference, reference) == 1, reference


def test_a_round_of_real_data(project: Path) -> None:
    small = {**SMALL, "model": {"max_tokens": 1024}}
    (project / "conf/realdata/parameters.yml").write_text(yaml.safe_dump(small))
    declared = yaml.safe_load((project / "conf/realdata/globals.yml").read_text())
    few = [
        {**source, "limit": 40} for source in declared["sources"] if source["name"] in ("gsm8k", "multi_image", "nlvr")
    ]
    (project / "conf/realdata/globals.yml").write_text(yaml.safe_dump({**declared, "sources": few}))
    done = kedro(project, "lifelong", "--env=realdata", "--last", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    pool = pd.read_parquet(entry(project, "realdata", 2, "pool_rows.parquet"))
    assert pool["source"].nunique() == 2
    scores = pd.read_parquet(entry(project, "realdata", 2, "score_matrix.parquet"))
    assert scores["round"].unique().tolist() == [0, 1, 2]

"""The same pipeline on real photos, charts, receipts, captions in four languages and school maths, where they are."""

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import yaml

from adapt_infinity.benchmarks import graders
from adapt_infinity.datasets import PicturesDataset, SourcesDataset
from adapt_infinity.model import Checkpoint, ModelParams, load_reader
from adapt_infinity.prompts import PromptCheck
from tests.conftest import PROJECT, checked, intake
from tests.pipelines.test_round import SMALL, entry, kedro, project  # noqa: F401  (project is a fixture)

FOLDER = os.environ.get("ADAPT_INFINITY_REALDATA", "")
SOURCES = yaml.safe_load((PROJECT / "conf/realdata/globals.yml").read_text())["sources"]
NAMES = [source["name"] for source in SOURCES]

pytestmark = pytest.mark.skipif(
    not Path(FOLDER or "nowhere").is_dir(), reason="ADAPT_INFINITY_REALDATA does not name the folder of real datasets"
)


def load(name: str, split: str):  # type: ignore[no-untyped-def]
    (source,) = SourcesDataset(
        filepath=FOLDER, sources=[one for one in SOURCES if one["name"] == name], split=split
    ).load()
    return source, PicturesDataset(filepath=FOLDER, sources=SOURCES, max_pixels=10**7).load()


@pytest.mark.parametrize("name", NAMES)
def test_real_records_arrive_whole(name: str, base_model: Checkpoint, model_params: ModelParams) -> None:
    source, pictures = load(name, "train")
    few = replace(source, records=islice(source.records, 40), expected=None)
    reader = load_reader(base_model, replace(model_params, max_tokens=1024))
    params = intake(max_text=100_000, max_reject_share=0.05)
    arrivals, rejects = checked(few, pictures, params, readable=PromptCheck(reader, pictures))
    assert len(arrivals) >= 38
    assert len(arrivals) + len(rejects) == 40


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_answer_grades_one(name: str) -> None:
    source, _ = load(name, "test")
    for record in islice(source.records, 60):
        reference = record["conversations"][-1]["value"]
        assert graders.load(source.graders[record["task"]])(reference, reference) == 1, reference


def test_a_round_of_real_data(project: Path) -> None:  # noqa: F811
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

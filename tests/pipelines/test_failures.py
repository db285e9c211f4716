"""Rounds with bad data, rounds that fail, and rounds without tracking."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from adapt_infinity.manifest import manifest_path, read_manifest
from tests.pipelines.running import entry, kedro

pytestmark = pytest.mark.slow


def test_bad_records_are_rejected_and_the_round_goes_on(project: Path, first_round: object) -> None:
    data = project / "data/broken"
    shutil.copytree(project / "data/embedded_stream", data)
    train = next(data.glob("*/train.json")).parent.parent / _first_arrival() / "train.json"
    records = json.loads(train.read_text())
    records[0]["conversations"][1]["value"] = ""
    records[1]["image"] = "../../../etc/passwd"
    records[2]["id"] = records[3]["id"]
    (data / records[4]["image"]).write_bytes(b"not a picture")
    (data / records[5]["image"]).unlink()
    train.write_text(json.dumps(records))
    done = kedro(project, "run", "--params=stream=broken,data=data/broken")
    assert done.returncode == 0, done.stdout + done.stderr
    rejects = pd.read_parquet(entry(project, "broken", 1, "rejects.parquet"))
    assert len(rejects) == 5
    assert set(rejects["source_id"]) == {records[place]["id"] for place in (0, 1, 3, 4, 5)}
    assert "rejected records" in done.stdout


def _first_arrival() -> str:
    from adapt_infinity.embedded.stream import ARRIVALS

    return ARRIVALS[0]


def test_failed_round_has_no_manifest_and_a_failed_mlflow_run(project: Path, first_round: object) -> None:
    from mlflow import MlflowClient

    done = kedro(project, "run", "--params=stream=failing,training.learning_rate=1e30")
    assert done.returncode != 0
    assert read_manifest(manifest_path(project, "failing", 1)) is None
    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("adapt-infinity")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`adapt_infinity.stream` = 'failing'")
    assert "FAILED" in {run.info.status for run in runs}


def test_tracking_can_be_switched_off(project: Path, first_round: object) -> None:
    before = (project / "mlflow.db").stat().st_mtime
    done = kedro(project, "run", "--pipelines=round_random", "--params=stream=quiet,tracking.enabled=false")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "switched off" in done.stdout
    assert (project / "mlflow.db").stat().st_mtime == before

"""A whole embedded stream through the command line, in a project of its own: small, but nothing left out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from adapt_infinity.intake import Source
from adapt_infinity.manifest import manifest_path, read_manifest
from adapt_infinity.pictures import Pictures
from adapt_infinity.records import Records
from tests.conftest import PROJECT, checked

SMALL = {
    "embedded_stream": {"train_size": 90, "design_size": 1, "test_size": 4},
    "subset": {"budget": 64},
    "pruning": {"pool_size": 80},
    "pseudo_skills": {"k": 6},
    "probe": {"dim": 256},
    "training": {"epochs": 1},
    "benchmarks": {"items_per_skill": 3},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project: configuration and code."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    shutil.copytree(PROJECT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "conf/local").mkdir()
    (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(SMALL))
    return folder


def kedro(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kedro", *words]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def entry(project: Path, stream: str, round: int, name: str) -> Path:
    """The version of a dataset that the round's manifest names."""
    manifest = read_manifest(manifest_path(project, stream, round))
    assert manifest is not None
    return project / f"data/runs/{stream}/round_{round}/{name}/{manifest.versions[name.split('.')[0]]}/{name}"


@pytest.fixture(scope="module")
def first_round(project: Path) -> subprocess.CompletedProcess[str]:
    done = kedro(project, "run", "--pipeline=round")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_first_round_runs_from_nothing(project: Path, first_round: subprocess.CompletedProcess[str]) -> None:
    assert (project / "data/embedded_stream/datasets.json").is_file()  # the data was made first
    assert read_manifest(manifest_path(project, "embedded", 0)) is not None  # and genesis was run
    subset = pd.read_parquet(entry(project, "embedded", 1, "subset.parquet"))
    assert subset["selected"].sum() == 64
    assert len(subset) == 90
    kept = json.loads(entry(project, "embedded", 1, "kept_pool.json").read_text())
    assert kept["rows"] == 80
    removals = pd.read_parquet(entry(project, "embedded", 1, "removals.parquet"))
    assert len(removals) == 10
    assert (removals["similarity"] <= 1.001).all()
    scores = pd.read_parquet(entry(project, "embedded", 1, "score_matrix.parquet"))
    assert scores["round"].unique().tolist() == [0, 1]
    for words in ("Selector experts", "Measures", "80", "64 samples trained on", "needs two rounds"):
        assert words in first_round.stdout


def test_features_experts_and_subset_belong_together(project: Path, first_round: object) -> None:
    subset = pd.read_parquet(entry(project, "embedded", 1, "subset.parquet"))
    experts = pd.read_parquet(entry(project, "embedded", 1, "cluster_experts.parquet"))
    scores = pd.read_parquet(entry(project, "embedded", 1, "features") / "scores.parquet")
    gradients = np.load(entry(project, "embedded", 1, "features") / "gradients.npy")
    assert scores["sample_id"].tolist() == subset["sample_id"].tolist()
    assert gradients.shape == (90, 256)
    chosen = experts[experts["chosen"]].set_index("cluster")["expert"]
    assert (subset["cluster"].map(chosen) == subset["expert"]).all()
    for expert, rows in subset.groupby("expert"):
        expected = scores.set_index("sample_id")[str(expert)].loc[rows["sample_id"].tolist()]
        assert rows["score"].to_numpy() == pytest.approx(expected.to_numpy())


def test_the_same_seed_gives_the_same_round(project: Path, first_round: object) -> None:
    again = kedro(project, "run", "--pipelines=round", "--params=stream=again")
    assert again.returncode == 0, again.stdout + again.stderr
    for name in ("subset.parquet", "clusters.parquet", "score_matrix.parquet", "removals.parquet", "answers.parquet"):
        left, right = (pd.read_parquet(entry(project, stream, 1, name)) for stream in ("embedded", "again"))
        pd.testing.assert_frame_equal(left, right)
    weights = [entry(project, stream, 1, "adapter") / "adapter_model.safetensors" for stream in ("embedded", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_stream_goes_on_and_is_resumable(project: Path, first_round: object) -> None:
    done = kedro(project, "lifelong", "--last", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 1 of embedded is complete" in done.stdout
    scores = pd.read_parquet(entry(project, "embedded", 2, "score_matrix.parquet"))
    assert scores["round"].unique().tolist() == [0, 1, 2]
    first, second = (json.loads(entry(project, "embedded", t, "kept_pool.json").read_text()) for t in (1, 2))
    assert second["shards"][: len(first["shards"])] == first["shards"]
    assert second["ledger"][: len(first["ledger"])] == first["ledger"]
    pool = json.loads(entry(project, "embedded", 2, "pool.json").read_text())
    assert pool["rows"] == 80 + 90
    manifest = read_manifest(manifest_path(project, "embedded", 2))
    before = read_manifest(manifest_path(project, "embedded", 1))
    assert manifest is not None
    assert before is not None
    assert manifest.versions["previous_adapter"] == before.versions["adapter"]


def test_the_pool_tells_its_story_and_takes_samples_back(project: Path, first_round: object) -> None:
    assert kedro(project, "lifelong", "--last", "2").returncode == 0
    removals = pd.read_parquet(entry(project, "embedded", 2, "removals.parquet"))
    shown = kedro(project, "pool", "show").stdout
    assert f"80 of {2 * 90} samples" in shown
    assert "clusters of round 2" in shown
    pruned = removals[removals["duplicate_of"] >= 0].iloc[0]
    told = kedro(project, "pool", "why", str(pruned["sample_id"])).stdout
    assert f"resembles sample {pruned['duplicate_of']}" in told
    assert "now: not in the pool" in told
    assert "languages" in kedro(project, "pool", "diff", "1", "2").stdout
    same = kedro(project, "pool", "prune", "--dry-run").stdout
    assert f"of {80 + 90} samples {len(removals)} would leave, 80 stay; 0 are listed" in same
    spared = kedro(project, "pool", "prune", "--dry-run", f"--params=pruning.must_keep=[{pruned['sample_id']}]")
    assert "80 stay; 1 are listed" in spared.stdout, spared.stderr
    refused = kedro(project, "pool", "prune")
    assert refused.returncode != 0
    assert "pruning belongs to the round" in refused.stderr
    assert "now: not in the pool" in kedro(project, "pool", "why", str(pruned["sample_id"])).stdout
    done = kedro(project, "pool", "restore", "--round", "2")
    assert f"{len(removals)} samples restored; round 3 starts from {80 + len(removals)}" in done.stdout, done.stderr
    assert "now: in the pool" in kedro(project, "pool", "why", str(pruned["sample_id"])).stdout
    kept = json.loads(entry(project, "embedded", 2, "kept_pool.json").read_text())
    assert kept["rows"] == 80 + len(removals)
    assert [part["round"] for part in kept["ledger"]] == [1, 2, 2]  # two prunings, one restoration
    assert "are what was written" in kedro(project, "pool", "verify").stdout
    part = project / "data/runs/embedded/pool" / kept["ledger"][0]["file"]
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    altered = kedro(project, "pool", "verify")
    part.write_bytes(whole)
    assert altered.returncode != 0
    assert "has been altered" in altered.stderr


def test_a_round_runs_on_any_past_pool(project: Path, first_round: object) -> None:
    assert kedro(project, "lifelong", "--last", "2").returncode == 0
    first = read_manifest(manifest_path(project, "embedded", 1))
    assert first is not None
    done = kedro(project, "run", "--params=round=3", f"--load-versions=pool:{first.versions['pool']}")
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(manifest_path(project, "embedded", 3))
    assert manifest is not None  # the round is complete, though nothing arrived
    assert manifest.versions["pool"] == first.versions["pool"]
    assert len(pd.read_parquet(entry(project, "embedded", 3, "subset.parquet"))) == 90


@pytest.mark.parametrize("format", ["llava", "chat"])
def test_what_was_chosen_is_exported_and_arrives_elsewhere(
    project: Path, first_round: object, tmp_path: Path, format: str
) -> None:
    words = ("--what", "subset", "--format", format, "--to", str(tmp_path / "out"), "--round", "1")
    done = kedro(project, "export", *words)
    assert "64 samples of embedded, round 1" in done.stdout, done.stderr
    subset = pd.read_parquet(entry(project, "embedded", 1, "subset.parquet"))
    rows = pd.read_parquet(entry(project, "embedded", 1, "arrivals.parquet"))
    chosen = rows[rows["sample_id"].isin(subset.loc[subset["selected"], "sample_id"])]
    (file,) = (tmp_path / "out").glob("data.json*")
    again, rejects = checked(Source("out", format, Records(file), {}), Pictures({"out": tmp_path / "out"}, 10_000))
    assert rejects.empty
    assert again["content_hash"].tolist() == chosen["content_hash"].tolist()


def test_data_says_what_is_there(project: Path, first_round: object) -> None:
    assert "there: charts/train.json" in kedro(project, "data").stdout
    assert "missing: gqa" in " ".join(kedro(project, "data", "--env=paper").stdout.split())
    assert "cc_sbu_align" in kedro(project, "data", "minigpt4_stage2").stdout
    assert "there is no preset 'nothing'" in kedro(project, "data", "nothing").stderr


def test_a_run_is_in_mlflow(project: Path, first_round: object) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("adapt-infinity")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    rounds = {run.info.run_name: run for run in runs}
    assert {"embedded", "embedded / round 0", "embedded / round 1"} <= set(rounds)
    child = rounds["embedded / round 1"]
    assert child.data.tags["mlflow.parentRunId"] == rounds["embedded"].info.run_id
    assert child.data.params["subset.budget"] == "64"
    assert {"subset/size", "pool/after", "cost/samples_probed", "measure/dataset/MFN"} <= set(child.data.metrics)
    assert child.data.metrics["subset/size"] == 64


def test_a_strategy_without_a_probe_runs_without_one(project: Path, first_round: object) -> None:
    done = kedro(project, "lifelong", "--last", "1", "--strategy", "random", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project / "data/runs/embedded-random-seed3/round_1"
    assert (folder / "manifest.json").is_file()
    assert not (folder / "features").exists()
    refused = kedro(project, "run", "--params=round=2,stream=embedded-random-seed3")
    said = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode != 0
    assert "round 2 reads previous_clusters, which round 1 (pipeline round_random) did not make" in said


def test_bad_records_end_in_the_rejects_and_not_the_round(project: Path, first_round: object) -> None:
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


def test_errors_are_one_line_and_name_the_remedy(project: Path, first_round: object) -> None:
    cases = {
        ("run", "--params=round=5"): "run `kedro run --params=round=4` first",
        ("run", "--params=round=0"): "round must be a whole number from 1, got 0",
        ("run", "--params=subset.budget=0"): "subset.budget must be",
        ("run", "--params=subset.bugdet=9"): "bugdet",
        ("run", "--params=model.adapter_targets=nothing,stream=x"): "model.adapter_targets",
        ("run", "--params=stream=y,data=data/nowhere", "--env=realdata"): "the stream's data is not there (no ",
        ("run", "--runner=ThreadRunner"): "ThreadRunner is refused",
        ("lifelong", "--last", "0"): "1 <= first <= last",
        ("lifelong", "--last", "1", "--params=subset.budget=9"): "was made with other parameters or another",
        ("lifelong", "--last", "1", "--strategy=random", "--stream=embedded"): "another strategy; give --again",
    }
    for words, message in cases.items():
        done = kedro(project, *words)
        said = done.stdout + done.stderr
        assert done.returncode != 0, words
        assert message in " ".join(said.split()), said
        assert "Traceback" not in said, said


def test_a_failed_round_is_marked_failed_and_completes_nothing(project: Path, first_round: object) -> None:
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


def _first_arrival() -> str:
    from adapt_infinity.embedded.stream import ARRIVALS

    return ARRIVALS[0]


def test_the_notebook_runs_on_a_finished_round(project: Path, first_round: object) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(PROJECT / "notebooks/a_finished_round.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # what is committed carries no results
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(project)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 5

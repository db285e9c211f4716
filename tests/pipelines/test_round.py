"""Rounds of the embedded stream, run by the command line in a project of their own."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adapt_infinity.manifest import manifest_path, read_manifest
from tests.pipelines.running import entry, kedro, start_kedro

TIMEOUT = 300  # seconds until a started round has saved its subset


def test_first_round_makes_data_and_genesis(project: Path, first_round: str) -> None:
    assert (project / "data/embedded_stream/datasets.json").is_file()  # the data were generated first
    assert read_manifest(manifest_path(project, "embedded", 0)) is not None  # then genesis was run
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
        assert words in first_round


def test_features_experts_and_subset_agree(project: Path, two_rounds: object) -> None:
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


def test_killed_round_can_be_run_again_with_the_same_result(project: Path, first_round: object) -> None:
    """Run the first round under another stream name, kill it (SIGKILL) during training, and run it again."""
    words = ("run", "--params=stream=again")
    process = start_kedro(project, *words)
    subset = project / "data/runs/again/round_1/subset.parquet"
    end = time.monotonic() + TIMEOUT
    while not subset.is_dir() and process.is_alive() and time.monotonic() < end:
        time.sleep(0.05)
    assert process.is_alive(), "the round has saved its subset and has not ended"
    process.kill()
    process.join()
    assert read_manifest(manifest_path(project, "again", 1)) is None
    again = kedro(project, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    for name in ("subset.parquet", "clusters.parquet", "score_matrix.parquet", "removals.parquet", "answers.parquet"):
        left, right = (pd.read_parquet(entry(project, stream, 1, name)) for stream in ("embedded", "again"))
        pd.testing.assert_frame_equal(left, right)
    files = ("adapter/adapter_model.safetensors", "features/gradients.npy", "features/embeddings.npy")
    for name, file in (path.split("/") for path in files):
        one, other = (entry(project, stream, 1, name) / file for stream in ("embedded", "again"))
        assert one.read_bytes() == other.read_bytes(), file


def test_second_round_continues_and_complete_rounds_are_skipped(project: Path, two_rounds: str) -> None:
    assert "round 1 of embedded is complete" in two_rounds
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


@pytest.mark.slow
def test_round_can_start_from_any_past_pool(project: Path, two_rounds: object) -> None:
    first = read_manifest(manifest_path(project, "embedded", 1))
    assert first is not None
    done = kedro(project, "run", "--params=round=3", f"--load-versions=pool:{first.versions['pool']}")
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = read_manifest(manifest_path(project, "embedded", 3))
    assert manifest is not None  # the round is complete, although no data arrived
    assert manifest.versions["pool"] == first.versions["pool"]
    assert len(pd.read_parquet(entry(project, "embedded", 3, "subset.parquet"))) == 90


def test_round_is_logged_to_mlflow(project: Path, two_rounds: object) -> None:
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


@pytest.mark.slow
def test_random_strategy_runs_no_probe(project: Path, two_rounds: object) -> None:
    done = kedro(project, "lifelong", "--last", "1", "--strategy", "random", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project / "data/runs/embedded-random-seed3/round_1"
    assert (folder / "manifest.json").is_file()
    assert not (folder / "features").exists()
    refused = kedro(project, "run", "--params=round=2,stream=embedded-random-seed3")
    output = " ".join((refused.stdout + refused.stderr).split())
    assert refused.returncode != 0
    assert (
        "round 2 reads previous_clusters, previous_scores, which round 1 (pipeline round_random) did not make" in output
    )

"""The commands `pool`, `export` and `data`, error messages, and the notebook, on finished rounds."""

import json
from pathlib import Path

import pandas as pd
import pytest

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.intake.reading import Source
from adapt_infinity.intake.records import Records
from tests.conftest import PROJECT, checked
from tests.pipelines.running import entry, imported_packages, kedro


def test_pool_commands_show_prune_restore_and_verify(project: Path, two_rounds: object) -> None:
    removals = pd.read_parquet(entry(project, "embedded", 2, "removals.parquet"))
    shown = kedro(project, "pool", "show").stdout
    assert f"80 of {2 * 90} samples" in shown
    assert "clusters of round 2" in shown
    pruned = removals[removals["duplicate_of"] >= 0].iloc[0]
    explained = kedro(project, "pool", "why", str(pruned["sample_id"])).stdout
    assert f"resembles sample {pruned['duplicate_of']}" in explained
    assert "now: not in the pool" in explained
    assert "languages" in kedro(project, "pool", "diff", "1", "2").stdout
    same = kedro(project, "pool", "prune", "--dry-run").stdout
    assert f"of {80 + 90} samples {len(removals)} would leave, 80 stay; 0 are listed" in same
    spared = kedro(project, "pool", "prune", "--dry-run", f"--params=pruning.must_keep=[{pruned['sample_id']}]")
    assert "80 stay; 1 are listed" in spared.stdout, spared.stderr
    refused = kedro(project, "pool", "prune")
    assert refused.returncode != 0
    assert "only a round (`kedro run`) prunes the pool" in refused.stderr
    assert "now: not in the pool" in kedro(project, "pool", "why", str(pruned["sample_id"])).stdout
    done = kedro(project, "pool", "restore", "--round", "2")
    assert f"{len(removals)} samples restored; round 3 starts from {80 + len(removals)}" in done.stdout, done.stderr
    assert "now: in the pool" in kedro(project, "pool", "why", str(pruned["sample_id"])).stdout
    kept = json.loads(entry(project, "embedded", 2, "kept_pool.json").read_text())
    assert kept["rows"] == 80 + len(removals)
    assert [part["round"] for part in kept["ledger"]] == [1, 2, 2]  # two prunings, one restoration
    assert "are unchanged" in kedro(project, "pool", "verify").stdout
    part = project / "data/runs/embedded/pool" / kept["ledger"][0]["file"]
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    altered = kedro(project, "pool", "verify")
    part.write_bytes(whole)
    assert altered.returncode != 0
    assert "has been altered" in altered.stderr


@pytest.mark.parametrize("format", ["llava", "chat"])
def test_exported_samples_can_be_read_again(project: Path, two_rounds: object, tmp_path: Path, format: str) -> None:
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


def test_data_lists_files_and_presets(project: Path, two_rounds: object) -> None:
    assert "there: charts/train.json" in kedro(project, "data").stdout
    assert "missing: gqa" in " ".join(kedro(project, "data", "--env=paper").stdout.split())
    assert "cc_sbu_align" in kedro(project, "data", "minigpt4_stage2").stdout
    assert "there is no preset 'nothing'" in kedro(project, "data", "nothing").stderr


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "pool show",
        "export --what pool --to data/exported",
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in ("data", "pool history", "pool why 3", "pool diff 0 1", "pool verify")
        ),
    ],
)
def test_commands_without_a_model_import_no_heavy_package(project: Path, two_rounds: object, words: str) -> None:
    """They start in about a second, because torch, transformers, MLflow and scikit-learn are not imported."""
    heavy = {"torch", "transformers", "peft", "mlflow", "sklearn"}
    assert not heavy & imported_packages(project, *words.split())


USER_ERRORS = {
    ("run", "--params=round=5"): "run `kedro run --params=round=4` first",
    ("run", "--params=round=0"): "round must be a whole number from 1, got 0",
    ("run", "--params=subset.budget=0"): "subset.budget must be",
    ("run", "--params=subset.bugdet=9"): "bugdet",
    ("run", "--params=model.adapter_targets=nothing,stream=x"): "model.adapter_targets",
    ("run", "--params=stream=y,data=data/nowhere", "--env=realdata"): "the stream's data is not there (no ",
    ("run", "--params=round=2,intake.max_text=1"): "source 'languages' yields no usable sample (90 rejected",
    ("run", "--runner=ThreadRunner"): "ThreadRunner is refused",
    ("lifelong", "--last", "0"): "1 <= first <= last",
    ("lifelong", "--last", "1", "--params=subset.budget=9"): "was run with other parameters or another",
    ("lifelong", "--last", "1", "--strategy=random", "--stream=embedded"): "another strategy; give --again",
}


@pytest.mark.parametrize("words", USER_ERRORS, ids=" ".join)
def test_user_errors_are_one_line_with_a_remedy(project: Path, two_rounds: object, words: tuple[str, ...]) -> None:
    done = kedro(project, *words)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert USER_ERRORS[words] in " ".join(output.split()), output
    assert "Traceback" not in output, output


@pytest.mark.slow
def test_notebook_runs_on_a_finished_round(project: Path, two_rounds: object) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(PROJECT / "notebooks/a_finished_round.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # the committed notebook has no outputs
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(project)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 5

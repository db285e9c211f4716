"""`kedro study`: a killed study continues where it stopped; its table, costs, MLflow runs and error messages."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
import pandas as pd
import pytest
from mlflow import MlflowClient

from adapt_infinity.cli import _cells
from adapt_infinity.cli.study import _variants, check_names, study
from adapt_infinity.manifest import manifest_path
from adapt_infinity.study.grid import Cell, cells
from tests.pipelines.running import entry, kedro

STRATEGIES = "random,adapt_inf_lite,oasis,independent,zero_shot"
COMMAND = ["study", f"--strategies={STRATEGIES}", "--seeds=0", "--last=2", "--name=s"]
TIMEOUT = 200  # seconds for the first round of a cell


def finished_rounds(project: Path) -> dict[str, float]:
    """The complete rounds of the study's cells, each with the time at which it was completed."""
    return {str(path): path.stat().st_mtime for path in project.glob("data/runs/s-*/round_[12]/manifest.json")}


@pytest.fixture(scope="module")
def killed(project: Path) -> dict[str, float]:
    """Kill a study and its workers as soon as one round is complete; returns the complete rounds."""
    command = [sys.executable, "-m", "kedro", *COMMAND]
    with (project / "killed.log").open("w") as log:
        study = subprocess.Popen(command, cwd=project, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + TIMEOUT
    while not finished_rounds(project) and time.monotonic() < end and study.poll() is None:
        time.sleep(0.2)
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()
    rounds = finished_rounds(project)
    assert rounds, (project / "killed.log").read_text()
    return rounds


@pytest.fixture(scope="module")
def resumed(project: Path, killed: dict[str, float]) -> subprocess.CompletedProcess[str]:
    done = kedro(project, *COMMAND)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_killed_study_continues(
    project: Path, killed: dict[str, float], resumed: subprocess.CompletedProcess[str]
) -> None:
    assert len(killed) < 8, "the study was killed before its end"
    now = finished_rounds(project)
    assert len(now) == 4 * 2
    assert {path: time for path, time in now.items() if path in killed} == killed, "no complete round is run again"
    assert "5 of 5 cells" in resumed.stdout


@pytest.mark.slow
def test_every_strategy_is_in_the_table(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    folder = project / "data/studies/s"
    table = pd.read_csv(folder / "table.csv").set_index(["strategy", "view", "measure"])
    assert set(table.index.get_level_values("strategy")) == set(STRATEGIES.split(","))
    assert table["value"]["zero_shot", "skill", "BWT"] == 0
    why = table["undefined"].fillna("")["random", "dataset", "relative gain"]
    assert "no independent run" not in why, "the independent cells are the reference"
    assert (folder / "study.html").stat().st_size > 50_000
    assert "relative gain" in (folder / "study.md").read_text()


@pytest.mark.slow
def test_costs_of_each_strategy(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    def cost(strategy: str, round: int = 2) -> dict[str, float]:
        path = manifest_path(project, f"s-{strategy}-finetune-seed0", round).with_name("cost.json")
        costs: dict[str, float] = json.loads(path.read_text())
        return costs

    assert cost("random")["selection_flops"] == cost("random")["samples_probed"] == 0
    oasis, lite = cost("oasis")["selection_flops"], cost("adapt_inf_lite")["selection_flops"]
    assert 1.5 * oasis < lite < 2.6 * oasis, "one forward pass; a second one without pictures and half a backward pass"
    assert cost("oasis")["samples_probed"] == 170, "kept samples and arrivals"
    assert cost("random")["training_flops"] > cost("random")["evaluation_flops"] > 0


@pytest.mark.slow
def test_independent_starts_from_the_first_adapter(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    def rounds(strategy: str) -> list[int]:
        adapter = entry(project, f"s-{strategy}-finetune-seed0", 2, "adapter")
        found: list[int] = json.loads((adapter / "record.json").read_text())["rounds"]
        return found

    assert rounds("independent") == [0, 2]
    assert rounds("random") == [0, 1, 2]


@pytest.mark.slow
def test_cells_are_nested_under_the_study(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    client = MlflowClient(f"sqlite:///{project.resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("adapt-infinity")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (study,) = [run for run in runs if run.data.tags.get("adapt_infinity.level") == "study"]
    streams = [run for run in runs if run.data.tags.get("adapt_infinity.level") == "stream"]
    nested = [run for run in streams if run.data.tags.get("mlflow.parentRunId") == study.info.run_id]
    assert study.info.status == "FINISHED"
    assert len(nested) == 4 + 1, "four cells, and the round 0 that they share"
    assert "study.html" in [file.path for file in client.list_artifacts(study.info.run_id)]


@pytest.fixture
def settings(
    project: Path, resumed: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch
) -> _cells.StudySettings:
    """The study's settings, to run cells in this process."""
    monkeypatch.chdir(project)
    return _cells.StudySettings(project.resolve(), None, "s", 2, {}, {}, 64, project.resolve() / "data/studies/s/logs")


@pytest.mark.slow
def test_complete_round_with_other_parameters_is_an_error(settings: _cells.StudySettings) -> None:
    _, wrong = _cells.run_cell(replace(settings, params={"subset": {"budget": 32}}), Cell("random", "finetune", 0))
    assert "round 1 of s-random-finetune-seed0 is complete, but was run with other parameters" in wrong


@pytest.mark.parametrize(
    ("strategy", "method", "message"),
    [
        ("randum", "finetune", "there is no 'randum' in strategies"),
        ("random", "ewk", "there is no 'ewk' in methods"),
        ("random:el2n", "finetune", "takes no argument"),
        ("random+deep", "finetune", r"'random\+deep' needs --variant deep:parameters"),
    ],
)
def test_unknown_names_are_errors_before_anything_runs(strategy: str, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_names(cells([strategy], [method], [0]))


def test_cells_override_variants_and_variants_override_the_study(tmp_path: Path) -> None:
    given = {"subset": {"budget": 10, "shares": "even"}, "training": {"adapter_policy": "merge_then_new"}}
    variants = {"deep": {"subset": {"budget": 20}, "seed": 9}}
    settings = _cells.StudySettings(tmp_path, None, "s", 1, given, variants, 10, tmp_path)
    found = _cells.cell_params(settings, Cell("random+deep@1.5", "finetune", 3))
    assert found["subset"] == {"budget": 30, "shares": "even"}
    assert found["training"] == {"method": "finetune", "adapter_policy": "merge_then_new"}
    assert (found["stream"], found["seed"]) == ("s-random_deep_1.5-finetune-seed3", 3)
    assert _cells.cell_params(settings, Cell("random", "eproj", 0))["training"]["adapter_policy"] == "continue"
    assert "budget" not in _cells.cell_params(replace(settings, params={}), Cell("random", "ewc", 0)).get("subset", {})


def test_variants_are_parsed() -> None:
    context, option = click.Context(study), study.params[0]
    given = ("deep:probe.dim=64,pruning.pool_size=5", "few:pseudo_skills.k=3")
    assert _variants(context, option, given) == {
        "deep": {"probe": {"dim": 64}, "pruning": {"pool_size": 5}},
        "few": {"pseudo_skills": {"k": 3}},
    }
    lists = ("pool:selector_experts.experts=[nll, el2n],subset.floors={skill: {box: 2}, source: {a: 1}},seed=1",)
    assert _variants(context, option, lists)["pool"] == {
        "selector_experts": {"experts": ["nll", "el2n"]},
        "subset": {"floors": {"skill": {"box": 2}, "source": {"a": 1}}},
        "seed": 1,
    }
    for wrong in (["deep"], ["deep:"], ["deep:a"], [":a=b"], ["De ep:a=b"], ["a:b=c", "a:b=d"]):
        with pytest.raises(click.BadParameter, match=r"must have the form name:|given twice"):
            _variants(context, option, wrong)


def die(_work: _cells.StudySettings, _seed: int) -> None:
    """End the worker process like the system does when memory is short."""
    os._exit(9)


def test_dead_worker_gives_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cells, "make_genesis", die)
    settings = _cells.StudySettings(tmp_path, None, "s", 1, {}, {}, 1, tmp_path / "logs")
    with pytest.raises(_cells.WorkerLostError, match=r"a worker process died .* run the command again"):
        list(_cells.run_cells(settings, cells(["random"], ["finetune"], [0]), 1))


def note_gpu(settings: _cells.StudySettings, seed: int) -> None:
    """Write down which GPU the worker sees, and wait for the other worker, so that one worker does not do both."""
    (settings.log / f"gpu{seed}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    end = time.monotonic() + TIMEOUT
    while len(list(settings.log.glob("gpu*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)


@pytest.mark.slow
def test_each_worker_sees_its_own_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cells, "make_genesis", note_gpu)
    monkeypatch.setattr(_cells, "visible_gpus", lambda: ["2", "5", "7"])
    settings = _cells.StudySettings(tmp_path, None, "s", 1, {}, {}, 1, tmp_path / "logs")
    assert list(_cells.run_cells(settings, [Cell("zero_shot", "finetune", seed) for seed in (0, 1)], 2)) == []
    assert sorted(path.read_text() for path in settings.log.glob("gpu*")) == ["2", "5"]


@pytest.mark.slow
def test_reused_features_count_as_costs_of_every_cell(settings: _cells.StudySettings) -> None:
    """A second method's cell reuses all features of round 1, and its costs include the time to compute them."""
    first, second = Cell("oasis", "finetune", 0), Cell("oasis", "ema", 0)
    _, wrong = _cells.run_cell(replace(settings, last=1), second)
    assert wrong == ""
    records = [
        json.loads((entry(settings.project, cell.stream("s"), 1, "features") / "record.json").read_text())
        for cell in (first, second)
    ]
    assert [record["rows read"] for record in records] == [90, 0]
    outcomes = [_cells.load_outcome(replace(settings, last=1), cell) for cell in (first, second)]
    costs = [outcome.costs[0] for outcome in outcomes if outcome is not None]
    assert [cost.samples_probed for cost in costs] == [90, 90]
    assert costs[1].selection_seconds >= records[0]["seconds"]

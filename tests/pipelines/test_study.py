"""`kedro study` as a user runs it: killed in the middle, gone on with, and what it leaves."""

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

WORDS = ["study", "--strategies=random,adapt_inf_lite,oasis,independent,zero_shot", "--seeds=0", "--last=2", "--name=s"]
PATIENCE = 200  # seconds for the first round of a cell


def finished(project: Path) -> dict[str, float]:
    """When each round of the study's cells was finished."""
    return {str(path): path.stat().st_mtime for path in project.glob("data/runs/s-*/round_[12]/manifest.json")}


@pytest.fixture(scope="module")
def killed(project: Path) -> dict[str, float]:
    """A study that dies, its workers with it, as soon as a cell has a round; what was finished by then."""
    command = [sys.executable, "-m", "kedro", *WORDS]
    with (project / "killed.log").open("w") as log:
        study = subprocess.Popen(command, cwd=project, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + PATIENCE
    while not finished(project) and time.monotonic() < until and study.poll() is None:
        time.sleep(0.2)
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()
    found = finished(project)
    assert found, (project / "killed.log").read_text()
    return found


@pytest.fixture(scope="module")
def resumed(project: Path, killed: dict[str, float]) -> subprocess.CompletedProcess[str]:
    done = kedro(project, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_it_goes_on_where_it_was(
    project: Path, killed: dict[str, float], resumed: subprocess.CompletedProcess[str]
) -> None:
    assert len(killed) < 8, "it was killed in the middle"
    now = finished(project)
    assert len(now) == 4 * 2
    assert {path: when for path, when in now.items() if path in killed} == killed, "no finished round is run again"
    assert "5 of 5 cells" in resumed.stdout


@pytest.mark.slow
def test_every_strategy_is_in_the_table(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    folder = project / "data/studies/s"
    table = pd.read_csv(folder / "table.csv").set_index(["strategy", "view", "measure"])
    assert set(table.index.get_level_values("strategy")) == set(WORDS[1].removeprefix("--strategies=").split(","))
    assert table["value"]["zero_shot", "skill", "BWT"] == 0
    why = table["undefined"].fillna("")["random", "dataset", "relative gain"]
    assert "no independent run" not in why, "independent cells are its reference, if what they reach is not 0"
    assert (folder / "study.html").stat().st_size > 50_000
    assert "relative gain" in (folder / "study.md").read_text()


@pytest.mark.slow
def test_what_each_strategy_pays_for(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
    def cost(strategy: str, round: int = 2) -> dict[str, float]:
        place = manifest_path(project, f"s-{strategy}-finetune-seed0", round).with_name("cost.json")
        found: dict[str, float] = json.loads(place.read_text())
        return found

    assert cost("random")["selection_flops"] == cost("random")["samples_probed"] == 0
    once, more = cost("oasis")["selection_flops"], cost("adapt_inf_lite")["selection_flops"]
    assert 1.5 * once < more < 2.6 * once, "a forward pass; another without pictures, and half a backward pass"
    assert cost("oasis")["samples_probed"] == 170, "what was kept and what arrived"
    assert cost("random")["training_flops"] > cost("random")["evaluation_flops"] > 0


@pytest.mark.slow
def test_independent_begins_anew(project: Path, resumed: subprocess.CompletedProcess[str]) -> None:
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
    assert len(nested) == 4 + 1, "four cells, and the genesis that they share"
    assert "study.html" in [file.path for file in client.list_artifacts(study.info.run_id)]


@pytest.fixture
def work(project: Path, resumed: subprocess.CompletedProcess[str], monkeypatch: pytest.MonkeyPatch) -> _cells.Work:
    """The study's cells, to be run in this process."""
    monkeypatch.chdir(project)
    return _cells.Work(project.resolve(), None, "s", 2, {}, {}, 64, project.resolve() / "data/studies/s/logs")


@pytest.mark.slow
def test_other_parameters_are_refused(work: _cells.Work) -> None:
    _, wrong = _cells.run_cell(replace(work, params={"subset": {"budget": 32}}), Cell("random", "finetune", 0))
    assert "round 1 of s-random-finetune-seed0 is complete, but was made with other parameters" in wrong


@pytest.mark.parametrize(
    ("strategy", "method", "message"),
    [
        ("randum", "finetune", "there is no 'randum' in strategies"),
        ("random", "ewk", "there is no 'ewk' in methods"),
        ("random:el2n", "finetune", "takes no argument"),
        ("random+deep", "finetune", r"'random\+deep' needs --variant deep:parameters"),
    ],
)
def test_names_that_are_none_are_found_before_anything_runs(strategy: str, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_names(cells([strategy], [method], [0]))


def test_a_variants_parameters_are_over_the_studys_and_under_the_cells(tmp_path: Path) -> None:
    given = {"subset": {"budget": 10, "shares": "even"}, "training": {"adapter_policy": "merge_then_new"}}
    variants = {"deep": {"subset": {"budget": 20}, "seed": 9}}
    work = _cells.Work(tmp_path, None, "s", 1, given, variants, 10, tmp_path)
    found = _cells.cell_params(work, Cell("random+deep@1.5", "finetune", 3))
    assert found["subset"] == {"budget": 30, "shares": "even"}
    assert found["training"] == {"method": "finetune", "adapter_policy": "merge_then_new"}
    assert (found["stream"], found["seed"]) == ("s-random_deep_1.5-finetune-seed3", 3)
    assert _cells.cell_params(work, Cell("random", "eproj", 0))["training"]["adapter_policy"] == "continue"
    assert "budget" not in _cells.cell_params(replace(work, params={}), Cell("random", "ewc", 0)).get("subset", {})


def test_variants_as_they_are_written() -> None:
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
        with pytest.raises(click.BadParameter, match=r"written name:|given twice"):
            _variants(context, option, wrong)


def die(_work: _cells.Work, _seed: int) -> None:
    """As a worker does that the system kills for its memory."""
    os._exit(9)


def test_a_worker_that_dies_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cells, "make_genesis", die)
    work = _cells.Work(tmp_path, None, "s", 1, {}, {}, 1, tmp_path / "logs")
    with pytest.raises(_cells.WorkerLostError, match=r"a worker died .* run the command again and it goes on; logs: "):
        list(_cells.run_cells(work, cells(["random"], ["finetune"], [0]), 1))


def note_gpu(work: _cells.Work, seed: int) -> None:
    """Which GPU a worker sees. It waits for the other, or one worker would do both."""
    (work.log / f"gpu{seed}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    until = time.monotonic() + PATIENCE
    while len(list(work.log.glob("gpu*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.slow
def test_each_worker_sees_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cells, "make_genesis", note_gpu)
    monkeypatch.setattr(_cells, "visible_gpus", lambda: ["2", "5", "7"])
    work = _cells.Work(tmp_path, None, "s", 1, {}, {}, 1, tmp_path / "logs")
    assert list(_cells.run_cells(work, [Cell("zero_shot", "finetune", seed) for seed in (0, 1)], 2)) == []
    assert sorted(path.read_text() for path in work.log.glob("gpu*")) == ["2", "5"]


@pytest.mark.slow
def test_a_shared_reading_is_charged_to_everyone(work: _cells.Work) -> None:
    """A second method's cell finds the first round read, reads no row of it again, and pays what it took."""
    first, second = Cell("oasis", "finetune", 0), Cell("oasis", "ema", 0)
    _, wrong = _cells.run_cell(replace(work, last=1), second)
    assert wrong == ""
    records = [
        json.loads((entry(work.project, cell.stream("s"), 1, "features") / "record.json").read_text())
        for cell in (first, second)
    ]
    assert [record["rows read"] for record in records] == [90, 0]
    made = [_cells.outcome(replace(work, last=1), cell) for cell in (first, second)]
    costs = [found.costs[0] for found in made if found is not None]
    assert [cost.samples_probed for cost in costs] == [90, 90]
    assert costs[1].selection_seconds >= records[0]["seconds"]

"""MLflow runs of rounds, in an SQLite store, also from a second process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Run

from adapt_infinity.benchmarks.measures import measure
from adapt_infinity.reporting import tracking
from adapt_infinity.reporting.metrics import fit_name, fit_names, round_metrics, undefined_tags
from adapt_infinity.reporting.table import RoundSummary
from adapt_infinity.reporting.tracking import SUPERSEDED, DisabledRun, RoundRun, TrackingParams, default_uri, open_round

PARAMS = TrackingParams(enabled=True, tracking_uri="", experiment="tests")
OFF = replace(PARAMS, enabled=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store all tests share, because a new one takes seconds; each test has its own stream."""
    return tmp_path_factory.mktemp("a project")


def opened(project: Path, stream: str, round: int) -> RoundRun:
    run = open_round(PARAMS, project, stream, round)
    assert isinstance(run, RoundRun)
    return run


def history(run: RoundRun, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in run.client.get_metric_history(run_id, key)]


def status(run: RoundRun, run_id: str) -> str:
    found: Run = run.client.get_run(run_id)
    return str(found.info.status)


def test_parent_run_has_the_metrics_of_all_rounds(project: Path) -> None:
    """Three rounds give three child runs and one parent run, whose metric has one step per round."""
    runs = []
    for t, score in enumerate([0.1, 0.8, 0.6]):
        run = opened(project, "curve", t)
        assert status(run, run.parent_id) == "RUNNING"
        run.log_metrics({"skill/charts": score})
        run.close("FINISHED")
        runs.append(run)
    assert len({run.parent_id for run in runs}) == 1
    assert history(run, run.parent_id, "skill/charts") == [(0, 0.1), (1, 0.8), (2, 0.6)]
    assert history(run, runs[1].run_id, "skill/charts") == [(1, 0.8)]
    child = run.client.get_run(run.run_id)
    assert child.data.tags["mlflow.parentRunId"] == run.parent_id
    assert status(run, run.parent_id) == status(run, run.run_id) == "FINISHED"


def test_training_loss_is_logged_during_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are sent together, every few seconds and at the end; NaN is left out."""
    run = opened(project, "loss", 1)
    run.log_step(0, {"loss": 2.0, "held_out_loss": float("nan")})
    assert history(run, run.run_id, "training/loss") == []
    monkeypatch.setattr(tracking, "EVERY", 0.0)
    run.log_step(1, {"loss": 1.0})
    assert history(run, run.run_id, "training/loss") == [(0, 2.0), (1, 1.0)]
    monkeypatch.setattr(tracking, "EVERY", 1e9)
    run.log_step(2, {"loss": 0.5})
    run.close("FINISHED")
    assert history(run, run.run_id, "training/loss") == [(0, 2.0), (1, 1.0), (2, 0.5)]
    assert history(run, run.parent_id, "training/loss") == [], "training steps are logged to the round only"
    assert "training/held_out_loss" not in run.client.get_run(run.run_id).data.metrics


@pytest.mark.slow
def test_another_process_continues_the_stream(project: Path) -> None:
    """A second process finds the parent run by the stream's name, and prints no notices."""
    first = opened(project, "two processes", 1)
    first.log_metrics({"skill/charts": 0.5})
    first.close("FINISHED")
    code = (
        "from pathlib import Path; from adapt_infinity.reporting.tracking import *\n"
        "on = TrackingParams(enabled=True, tracking_uri='', experiment='tests')\n"
        f"run = open_round(on, Path({str(project)!r}), 'two processes', 2)\n"
        "run.log_metrics({'skill/charts': 0.4}); run.close('FINISHED'); print(run.parent_id)"
    )
    environment = {**os.environ, "DO_NOT_TRACK": "true"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == first.parent_id
    assert "INFO" not in done.stderr
    assert history(first, first.parent_id, "skill/charts") == [(1, 0.5), (2, 0.4)]


def test_failed_round_is_superseded_by_the_next_run(project: Path) -> None:
    failed = opened(project, "failing", 1)
    failed.log_metrics({"pool/before": 10})
    failed.close("FAILED")
    assert status(failed, failed.run_id) == status(failed, failed.parent_id) == "FAILED"
    again = opened(project, "failing", 1)
    assert status(again, again.parent_id) == "RUNNING"
    again.log_metrics({"pool/before": 12})
    again.close("FINISHED")
    assert again.parent_id == failed.parent_id
    assert status(again, failed.run_id) == "FAILED"
    assert status(again, again.parent_id) == "FINISHED"
    assert again.client.get_run(failed.run_id).data.tags[SUPERSEDED] == again.run_id
    assert again.client.get_run(again.parent_id).data.metrics["pool/before"] == 12
    assert "(run 2)" in again.where


def test_run_of_a_killed_process_gets_the_status_killed(project: Path) -> None:
    killed = opened(project, "killed", 1)
    again = opened(project, "killed", 1)
    assert status(again, killed.run_id) == "KILLED"
    assert status(again, again.run_id) == "RUNNING"


def test_streams_have_different_parents(project: Path) -> None:
    assert opened(project, "left", 1).parent_id != opened(project, "right", 1).parent_id


def test_params_tags_figures_tables_and_files(project: Path) -> None:
    run = opened(project, "everything", 1)
    run.log_params({f"training.p{i}": i for i in range(130)})
    run.log_tags({"dataset/pool": "2026-01-01T00.00.00.000Z", "git (commit)": "abc"})
    axes = (figure := Figure()).subplots()
    axes.plot([0, 1])
    run.log_figure(figure, "curves")
    run.log_table(pd.DataFrame({"a": [1], "b": ["x"]}), "scores")
    (project / "note.txt").write_text("hello")
    run.log_artifact(project / "note.txt")
    run.close("FINISHED")
    data = run.client.get_run(run.run_id).data
    assert len(data.params) == 130
    assert data.tags["git _commit_"] == "abc"
    assert {f.path for f in run.client.list_artifacts(run.run_id)} == {"figures", "tables", "note.txt"}
    stored = list((project / "mlruns").rglob("scores.csv"))
    assert stored[0].read_text() == "a,b\n1,x\n"


def test_global_state_of_mlflow_is_unchanged(project: Path) -> None:
    import mlflow

    opened(project, "quiet", 1).close("FINISHED")
    assert mlflow.active_run() is None
    assert str(project) not in mlflow.get_tracking_uri()


def test_tracking_uri_selects_the_store(project: Path, tmp_path: Path) -> None:
    """A round of another project folder is logged to the store of the given URI."""
    params = replace(PARAMS, tracking_uri=default_uri(project))
    run = open_round(params, tmp_path, "elsewhere", 1)
    assert isinstance(run, RoundRun)
    assert not (tmp_path / "mlflow.db").exists()
    assert MlflowClient(default_uri(project)).get_run(run.run_id)


def test_disabled_run_does_nothing(tmp_path: Path) -> None:
    run = open_round(OFF, tmp_path, "s", 1)
    run.log_params({"a": 1})
    run.log_metrics({"a": 1})
    run.log_tags({"a": "b"})
    run.log_figure(Figure(), "f")
    run.log_table(pd.DataFrame(), "t")
    run.log_artifact(tmp_path)
    run.close("FAILED")
    assert run.where == "MLflow is switched off (tracking.enabled: false)"
    assert list(tmp_path.iterdir()) == []


def test_disabled_run_has_the_methods_of_a_run() -> None:
    methods = {name for name in vars(RoundRun) if name.startswith("log_")} | {"close"}
    assert methods == {name for name in vars(DisabledRun) if name.startswith("log_")} | {"close"}


def test_disabled_tracking_does_not_import_mlflow() -> None:
    code = (
        "import sys; from pathlib import Path; from adapt_infinity.reporting.tracking import *\n"
        "off = TrackingParams(enabled=False, tracking_uri='', experiment='tests')\n"
        "open_round(off, Path('.'), 's', 1); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metric_names() -> None:
    scores = pd.DataFrame(
        {
            "round": [0, 1],
            "dataset": "one",
            "skill": "bar charts",
            "grader": "exact",
            "items": 4,
            "score": [0.1, 0.5],
        }
    )
    table = measure(scores, {"one": 1}, {"bar charts": 1})
    subset = pd.DataFrame({"sample_id": [0, 1], "source": "one", "cluster": 0, "selected": [True, False]})
    experts = pd.DataFrame({"cluster": [0], "size": [2], "rank": [1], "expert": ["el2n"], "chosen": [True]})
    summary = RoundSummary(
        stream="s", round=1, score_matrix=scores, measures=table, own_skills={"bar charts": 1}, subset=subset,
        cluster_experts=experts, pool_before=2, pool_after=1, samples_probed=2, seconds={"probe": 1.5},
    )  # fmt: skip
    assert round_metrics(summary) == {
        "skill/bar charts": 0.5,
        **{f"measure/{view}/{name}": 0.5 for view in ("dataset", "skill") for name in ("MFN", "MFT", "MAA")},
        "cost/seconds/probe": 1.5,
        "cost/samples_probed": 2,
        "pool/before": 2,
        "pool/after": 1,
        "subset/size": 1,
        "expert_clusters/el2n": 1,
    }
    tags = undefined_tags(table)
    assert tags["undefined/skill/forgetting_rate"] == "needs two rounds"
    assert len(tags) == 10


@pytest.mark.parametrize(
    ("name", "fit"),
    [("skill/VQA (zh)", "skill/VQA _zh_"), ("a//b", "a/_/b"), ("../x", "_/x"), ("/x", "_/x"), ("é:1", "é_1")],
)
def test_names_are_fitted_to_mlflow(name: str, fit: str, project: Path) -> None:
    assert fit_name(name) == fit
    opened(project, "names", 1).log_metrics({name: 1.0})


def test_names_that_become_equal_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"'a!' and 'a\?' are both 'a_'"):
        fit_names({"a!": 1, "a?": 2})


def test_invalid_params_are_errors() -> None:
    with pytest.raises(ValueError, match=r"tracking\.experiment must not be blank"):
        replace(PARAMS, experiment=" ")
    with pytest.raises(ValueError, match=r"tracking\.tracking_uri must be a URI .* got 'mlruns'"):
        replace(PARAMS, tracking_uri="mlruns")


def test_quote_in_the_name_of_a_stream_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not contain a quote"):
        open_round(PARAMS, tmp_path, "it's", 1)

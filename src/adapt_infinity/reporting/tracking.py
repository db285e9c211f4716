"""Rounds as MLflow runs: a stream is a parent run, and each of its rounds is a child run. The step is the round.

This is the only file that imports MLflow. It uses `MlflowClient` with an explicit URI, without an active run or a
global tracking URI, so that another process can continue the stream later.
"""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pandas as pd

from adapt_infinity.parameters import Satisfies, check
from adapt_infinity.reporting.metrics import Value, fit_name, fit_names

if TYPE_CHECKING:  # MLflow takes seconds to import, so only functions of tracked rounds import it
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

STREAM, ROUND, LEVEL, SUPERSEDED = (f"adapt_infinity.{tag}" for tag in ("stream", "round", "level", "superseded_by"))
_METRICS, _ITEMS = 1000, 100  # metrics, and parameters or tags, that MLflow allows in one request
EVERY = 5.0  # seconds between requests during training
TRACKING_URI = Satisfies(
    lambda uri: not uri or ":" in uri, "a URI such as sqlite:////folder/mlflow.db or http://host:5000, or empty"
)


@dataclass(frozen=True, kw_only=True)
class TrackingParams:
    """params:tracking."""

    SECTION: ClassVar[str] = "tracking"

    enabled: bool = True
    tracking_uri: Annotated[str, TRACKING_URI] = ""  # "": mlflow.db in the project's folder, where `mlflow ui` looks
    experiment: str = "adapt-infinity"
    parent: str = ""  # id of the run that is the parent of the stream's run: the study's

    def __post_init__(self) -> None:
        check(self)
        if self.enabled and not self.experiment.strip():
            raise ValueError(f"tracking.experiment must not be blank, got {self.experiment!r}")


@dataclass
class Curve:
    """Training steps that are not sent to MLflow yet."""

    pending: list[tuple[int, float, Mapping[str, float]]] = field(default_factory=list)  # step, time, values
    sent: float = field(default_factory=time.monotonic)  # time of the last request

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add the values of a step."""
        self.pending.append((step, time.time(), values))

    def due(self) -> bool:
        """Whether the last request is at least `EVERY` seconds ago."""
        return time.monotonic() - self.sent >= EVERY

    def take_metrics(self) -> "list[Metric]":
        """Remove all pending steps and return them as metrics training/<name>, without values that are not finite."""
        from mlflow.entities import Metric

        metrics = [
            Metric(f"training/{name}", value, int(1000 * when), step)
            for step, when, values in self.pending
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self.pending.clear()
        self.sent = time.monotonic()
        return metrics


@dataclass(frozen=True, kw_only=True)
class RoundRun:
    """The open MLflow run of a round. All names are changed to names that MLflow allows."""

    client: "MlflowClient"
    run_id: str
    parent_id: str
    round: int
    where: str  # a description for people of how to find the run
    curve: Curve = field(default_factory=Curve)

    def log_step(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of a training step to the round's run; a request is sent every few seconds."""
        self.curve.add(step, values)
        if self.curve.due():
            self._send_curve()

    def _send_curve(self) -> None:
        for part in _batches(self.curve.take_metrics(), _METRICS):
            self.client.log_batch(self.run_id, metrics=part)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters to the round's run; they may differ between the rounds of a stream."""
        from mlflow.entities import Param

        for part in _batches([Param(key, str(value)) for key, value in fit_names(params).items()], _ITEMS):
            self.client.log_batch(self.run_id, params=part)

    def log_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Log metrics to the runs of the round and of the stream; if a step occurs twice, its last value counts."""
        from mlflow.entities import Metric

        assert all(math.isfinite(value) for value in metrics.values()), metrics
        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, self.round) for key, value in fit_names(metrics).items()]
        for part in _batches(entries, _METRICS):
            for run_id in (self.run_id, self.parent_id):
                self.client.log_batch(run_id, metrics=part)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log tags to the round's run, such as versions of datasets and reasons why measures are undefined."""
        from mlflow.entities import RunTag

        for part in _batches([RunTag(key, str(value)) for key, value in fit_names(tags).items()], _ITEMS):
            self.client.log_batch(self.run_id, tags=part)

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Log a figure as figures/<name>.png."""
        self.client.log_figure(self.run_id, figure, f"figures/{fit_name(name)}.png")

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a table as tables/<name>.csv."""
        self.client.log_text(self.run_id, table.to_csv(index=False), f"tables/{fit_name(name)}.csv")

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Log an existing file, below `folder` of the artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder or None)

    def close(self, status: Literal["FINISHED", "FAILED"]) -> None:
        """End the round's run. The stream's run has the same status until the next round opens it again."""
        self._send_curve()
        for run_id in (self.run_id, self.parent_id):
            self.client.set_terminated(run_id, status)


class DisabledRun:
    """The run of a round if tracking.enabled is false: it has the same methods, which do nothing."""

    where = "MLflow is switched off (tracking.enabled: false)"

    def log_step(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Do nothing."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Do nothing."""

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Do nothing."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def close(self, status: Literal["FINISHED", "FAILED"]) -> None:
        """Do nothing."""


def open_round(
    params: TrackingParams, project_path: Path, stream: str, round: int, tags: Mapping[str, str] | None = None
) -> RoundRun | DisabledRun:
    """Start a child run for `round`. The stream's parent run is created if it is missing, and set to RUNNING.

    Earlier runs of the same round are kept and tagged with the run that replaces them; those that a killed process left
    RUNNING get the status KILLED. ValueError for a stream's name with a quote.
    """
    if not params.enabled:
        return DisabledRun()
    if "'" in stream:
        raise ValueError(f"the stream's name must not contain a quote, got {stream!r}")
    from mlflow import MlflowClient
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    uri = params.tracking_uri or default_uri(project_path)
    with _without_notices():
        client = MlflowClient(tracking_uri=uri)
        experiment_id = _experiment(client, params, project_path)
    parents = _search(client, experiment_id, {STREAM: stream, LEVEL: "stream"})
    if parents:
        parent = parents[0]
        client.update_run(parent.info.run_id, status="RUNNING")
    else:
        study = {MLFLOW_PARENT_RUN_ID: params.parent} if params.parent else {}
        parent = client.create_run(experiment_id, tags={STREAM: stream, LEVEL: "stream", **study}, run_name=stream)
    parent_id = parent.info.run_id
    own_tags = {STREAM: stream, LEVEL: "round", ROUND: str(round)}
    earlier = _search(client, experiment_id, {**own_tags, MLFLOW_PARENT_RUN_ID: parent_id})
    name = f"{stream} / round {round}" + (f" (run {len(earlier) + 1})" if earlier else "")
    all_tags = {**fit_names(tags or {}), **own_tags, MLFLOW_PARENT_RUN_ID: parent_id}
    run_id = client.create_run(experiment_id, tags=all_tags, run_name=name).info.run_id
    for old in earlier:
        if SUPERSEDED not in old.data.tags:
            client.set_tag(old.info.run_id, SUPERSEDED, run_id)
        if old.info.status == "RUNNING":
            client.set_terminated(old.info.run_id, "KILLED")
    where = f"experiment {params.experiment!r}, run {name!r} ({run_id}) at {uri}"
    return RoundRun(client=client, run_id=run_id, parent_id=parent_id, round=round, where=where)


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """The parent run of the streams of a study; without tracking it has no id, and `log` does nothing."""

    run_id: str = ""
    client: "MlflowClient | None" = None

    def log(self, files: Iterable[Path]) -> None:
        """Log the files of the study and set the status FINISHED."""
        if self.client is None:
            return
        for path in files:
            self.client.log_artifact(self.run_id, str(path), "figures" if path.suffix == ".png" else None)
        self.client.set_terminated(self.run_id, "FINISHED")


def open_study(params: TrackingParams, project_path: Path, name: str) -> StudyRun:
    """Open or create the run of a study. This also creates the store, before several workers use it at the same time.

    ValueError for a name with a quote.
    """
    if not params.enabled:
        return StudyRun()
    if "'" in name:
        raise ValueError(f"the study's name must not contain a quote, got {name!r}")
    from mlflow import MlflowClient

    with _without_notices():
        client = MlflowClient(tracking_uri=params.tracking_uri or default_uri(project_path))
        experiment_id = _experiment(client, params, project_path)
    tags = {STREAM: name, LEVEL: "study"}
    known = _search(client, experiment_id, tags)
    run = known[0] if known else client.create_run(experiment_id, tags=tags, run_name=f"study {name}")
    client.update_run(run.info.run_id, status="RUNNING")
    return StudyRun(run_id=run.info.run_id, client=client)


def default_uri(project_path: Path) -> str:
    """The URI of an SQLite file in the project's folder, as an absolute path."""
    return f"sqlite:///{(project_path.resolve() / 'mlflow.db').as_posix()}"


def _experiment(client: "MlflowClient", params: TrackingParams, project_path: Path) -> str:
    """The id of the experiment, which is created if it is missing; ValueError if it was deleted in MLflow.

    Artifacts are in `mlruns` in the project's folder, or, with a given store, where this store keeps them.
    """
    experiment = client.get_experiment_by_name(params.experiment)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            raise ValueError(f"tracking.experiment {params.experiment!r} was deleted in MLflow; choose another name")
        return str(experiment.experiment_id)
    artifacts = None if params.tracking_uri else (project_path.resolve() / "mlruns").as_uri()
    return str(client.create_experiment(params.experiment, artifact_location=artifacts))


def _search(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str]) -> "list[Run]":
    """All runs with these tags, oldest first."""
    condition = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    return list(client.search_runs([experiment_id], condition, order_by=["attributes.start_time ASC"]))


def _batches(items: list[Value], size: int) -> Iterator[list[Value]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _without_notices() -> Iterator[None]:
    """Hide the notices with which MLflow creates a new store; warnings and errors are still shown."""
    loggers = [logging.getLogger(name) for name in ("mlflow.store.db.utils", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

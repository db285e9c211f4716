"""Rounds in MLflow: a stream is a parent run, a round its child; over steps, the parent shows the curves.

The only file that knows MLflow. It talks to a store named by an explicit URI, through `MlflowClient`: no
active run, no global tracking URI, so a stream goes on in another process the next day.
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

if TYPE_CHECKING:  # MLflow takes seconds to import: only a round that is tracked pays for it
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

STREAM, ROUND, LEVEL, SUPERSEDED = (f"adapt_infinity.{tag}" for tag in ("stream", "round", "level", "superseded_by"))
_METRICS, _ITEMS = 1000, 100  # that one request may carry
EVERY = 5.0  # seconds between requests while a training goes on
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
    parent: str = ""  # the run under which the stream's is nested: a study's

    def __post_init__(self) -> None:
        check(self)
        if self.enabled and not self.experiment.strip():
            raise ValueError(f"tracking.experiment must not be blank, got {self.experiment!r}")


@dataclass
class Curve:
    """Steps of a training that are still to be sent."""

    waiting: list[tuple[int, float, Mapping[str, float]]] = field(default_factory=list)  # step, time, values
    sent: float = field(default_factory=time.monotonic)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Another one."""
        self.waiting.append((step, time.time(), values))

    def due(self) -> bool:
        """Whether it is time to send them."""
        return time.monotonic() - self.sent >= EVERY

    def taken(self) -> "list[Metric]":
        """All of them as metrics training/<name>, and then none."""
        from mlflow.entities import Metric

        made = [
            Metric(f"training/{name}", value, int(1000 * when), step)
            for step, when, values in self.waiting
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self.waiting.clear()
        self.sent = time.monotonic()
        return made


@dataclass(frozen=True, kw_only=True)
class RoundRun:
    """An open child run. Names are made fit for MLflow on the way."""

    client: "MlflowClient"
    run_id: str
    parent_id: str
    round: int
    where: str  # for people: how to find the run
    curve: Curve = field(default_factory=Curve)

    def log_step(self, step: int, values: Mapping[str, float]) -> None:
        """A step of the training, on the child as it happens: a request every few seconds."""
        self.curve.add(step, values)
        if self.curve.due():
            self._send_curve()

    def _send_curve(self) -> None:
        for part in _batches(self.curve.taken(), _METRICS):
            self.client.log_batch(self.run_id, metrics=part)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """On the child: a stream's parameters may change between rounds."""
        from mlflow.entities import Param

        for part in _batches([Param(key, str(value)) for key, value in fit_names(params).items()], _ITEMS):
            self.client.log_batch(self.run_id, params=part)

    def log_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """On child and parent, step = round. A round run again writes the step again; the latest counts."""
        from mlflow.entities import Metric

        assert all(math.isfinite(value) for value in metrics.values()), metrics
        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, self.round) for key, value in fit_names(metrics).items()]
        for part in _batches(entries, _METRICS):
            for run_id in (self.run_id, self.parent_id):
                self.client.log_batch(run_id, metrics=part)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """On the child: dataset versions, the code's version, why a measure is undefined."""
        from mlflow.entities import RunTag

        for part in _batches([RunTag(key, str(value)) for key, value in fit_names(tags).items()], _ITEMS):
            self.client.log_batch(self.run_id, tags=part)

    def log_figure(self, figure: "Figure", name: str) -> None:
        """As figures/<name>.png."""
        self.client.log_figure(self.run_id, figure, f"figures/{fit_name(name)}.png")

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """As tables/<name>.csv."""
        self.client.log_text(self.run_id, table.to_csv(index=False), f"tables/{fit_name(name)}.csv")

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """A file as it is."""
        self.client.log_artifact(self.run_id, str(path), folder or None)

    def close(self, status: Literal["FINISHED", "FAILED"]) -> None:
        """Ends the child; the stream's run shows the state of its latest round until the next one opens."""
        self._send_curve()
        for run_id in (self.run_id, self.parent_id):
            self.client.set_terminated(run_id, status)


class SwitchedOff:
    """Stands in for a run when tracking.enabled is false: takes everything, keeps nothing."""

    where = "MLflow is switched off (tracking.enabled: false)"

    def log_step(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Nothing."""

    def log_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Nothing."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Nothing."""

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Nothing."""

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Nothing."""

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Nothing."""

    def close(self, status: Literal["FINISHED", "FAILED"]) -> None:
        """Nothing."""


def open_round(
    params: TrackingParams, project_path: Path, stream: str, round: int, tags: Mapping[str, str] | None = None
) -> RoundRun | SwitchedOff:
    """A new child run for `round` under the stream's parent run, which is found, or made, and set to RUNNING.

    Earlier runs of the same round stay, tagged with the run that replaces them; one that a killed process
    left RUNNING becomes KILLED. `ValueError` for a stream's name with a quote.
    """
    if not params.enabled:
        return SwitchedOff()
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
        under = {MLFLOW_PARENT_RUN_ID: params.parent} if params.parent else {}
        parent = client.create_run(experiment_id, tags={STREAM: stream, LEVEL: "stream", **under}, run_name=stream)
    parent_id = parent.info.run_id
    mine = {STREAM: stream, LEVEL: "round", ROUND: str(round)}
    earlier = _search(client, experiment_id, {**mine, MLFLOW_PARENT_RUN_ID: parent_id})
    name = f"{stream} / round {round}" + (f" (run {len(earlier) + 1})" if earlier else "")
    all_tags = {**fit_names(tags or {}), **mine, MLFLOW_PARENT_RUN_ID: parent_id}
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
    """The run under which a study's streams are nested; without tracking it has no id and keeps nothing."""

    run_id: str = ""
    client: "MlflowClient | None" = None

    def log(self, files: Iterable[Path]) -> None:
        """The study's tables, figures and page, and that it is done."""
        if self.client is None:
            return
        for path in files:
            self.client.log_artifact(self.run_id, str(path), "figures" if path.suffix == ".png" else None)
        self.client.set_terminated(self.run_id, "FINISHED")


def open_study(params: TrackingParams, project_path: Path, name: str) -> StudyRun:
    """The study's run, found or made; making it makes the store, before several workers would make it at once."""
    if not params.enabled:
        return StudyRun()
    if "'" in name:
        raise ValueError(f"the study's name must not contain a quote, got {name!r}")
    from mlflow import MlflowClient

    with _without_notices():
        client = MlflowClient(tracking_uri=params.tracking_uri or default_uri(project_path))
        experiment_id = _experiment(client, params, project_path)
    mine = {STREAM: name, LEVEL: "study"}
    known = _search(client, experiment_id, mine)
    run = known[0] if known else client.create_run(experiment_id, tags=mine, run_name=f"study {name}")
    client.update_run(run.info.run_id, status="RUNNING")
    return StudyRun(run_id=run.info.run_id, client=client)


def default_uri(project_path: Path) -> str:
    """An SQLite file in the project's folder, absolute, so that it is the same from anywhere."""
    return f"sqlite:///{(project_path.resolve() / 'mlflow.db').as_posix()}"


def _experiment(client: "MlflowClient", params: TrackingParams, project_path: Path) -> str:
    """Found by name, or made: artefacts beside the default store, or where the given store keeps them."""
    found = client.get_experiment_by_name(params.experiment)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise ValueError(f"tracking.experiment {params.experiment!r} was deleted in MLflow: choose another")
        return str(found.experiment_id)
    artefacts = None if params.tracking_uri else (project_path.resolve() / "mlruns").as_uri()
    return str(client.create_experiment(params.experiment, artifact_location=artefacts))


def _search(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str]) -> "list[Run]":
    """Runs with all these tags, oldest first."""
    having = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    return list(client.search_runs([experiment_id], having, order_by=["attributes.start_time ASC"]))


def _batches(items: list[Value], size: int) -> Iterator[list[Value]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _without_notices() -> Iterator[None]:
    """A new store is announced table by table; warnings and errors still show."""
    loggers = [logging.getLogger(name) for name in ("mlflow.store.db.utils", "alembic")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""What happens around a round: stages are timed, the manifest is written, MLflow and the terminal get the results."""

import logging
import subprocess
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from adapt_infinity import __version__
from adapt_infinity.intake.overlap import summarise
from adapt_infinity.intake.rejects import without_details
from adapt_infinity.kedro_internals import load_path
from adapt_infinity.manifest import Manifest, manifest_path, round_folder, write_json, write_manifest
from adapt_infinity.parameters import parameters_hash
from adapt_infinity.session import inputs_without_arrival
from adapt_infinity.study.round_cost import peak_memory_gb, round_cost

log = logging.getLogger(__name__)


class StageClock:
    """Seconds spent in each stage: reading inputs, computing and writing results."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage = ""
        self._since = time.perf_counter()

    def enter(self, stage: str) -> None:
        """From now on, time counts for `stage`; "" stops the clock."""
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now


class RoundHooks:
    """Kedro's hooks: one object per process, reset by each run. Pipelines that are not a round are ignored."""

    def __init__(self) -> None:
        self._context: KedroContext | None = None
        self._read_params: dict[str, Any] | None = None  # of the context, read once
        self._clock = StageClock()
        self._run: Any = None  # the round's MLflow run while it is open
        self._listening = ExitStack()  # passes training losses on to the MLflow run

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context, self._read_params = context, None

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # transformers would draw one for each of many small loads
        self._clock = StageClock()
        self._run = None
        if not _is_round(pipeline):
            return
        from adapt_infinity.reporting.tracking import TrackingParams, open_round

        params = self._params()
        check_method(params["training"], params["methods"])
        if {"params:probe", "params:selector_experts"} <= pipeline.inputs():
            check_experts(params["selector_experts"]["experts"], params["probe"])
        tags = {"strategy": _pipeline_name(run_params), "code_version": code_version(self._project())}
        self._run = open_round(
            TrackingParams(**params["tracking"]), self._project(), params["stream"], params["round"], tags
        )
        self._run.log_params(flatten(params))
        from adapt_infinity.training.loss_events import listening

        self._listening = ExitStack()
        self._listening.enter_context(listening(self._run.log_step))

    @hook_impl
    def before_dataset_loaded(self, node: Any) -> None:
        self._clock.enter(node.namespace or node.name)

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        self._clock.enter(node.namespace or node.name)
        log.info("%s: %s", node.namespace or "…", node.short_name.replace("_", " ").lower())

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        self._clock.enter("")
        if self._run is None:
            return
        name = _pipeline_name(run_params)
        if pipeline.nodes in whole_rounds(
            name, run_params
        ):  # a part of a round writes versions, but completes no round
            manifest = make_manifest(name, pipeline, catalog, self._params(), code_version(self._project()))
            place = manifest_path(self._project(), manifest.stream, manifest.round)
            cost = round_cost(pipeline.all_outputs(), catalog.load, self._params(), self._clock.seconds)
            write_json(place.with_name("cost.json"), asdict(cost))
            write_manifest(place, manifest)
            self._run.log_tags({f"version/{entry}": version for entry, version in manifest.versions.items()})
            self._report(pipeline, catalog)
        self._listening.close()
        self._run.close("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        self._listening.close()
        if self._run is not None:
            self._run.close("FAILED")

    def _report(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Print the closing table, and log metrics, tables and figures to MLflow."""
        from rich.console import Console

        from adapt_infinity.reporting.metrics import round_metrics, undefined_tags
        from adapt_infinity.reporting.results import FIGURES, TABLES
        from adapt_infinity.reporting.table import closing_table

        made = pipeline.all_outputs()
        summary = self._summarise(made, pipeline.inputs(), catalog)
        self._run.log_metrics(round_metrics(summary))
        self._run.log_tags(undefined_tags(summary.measures))
        for name in sorted(made & TABLES.keys()):
            self._run.log_table(catalog.load(name), name)
        for name in sorted(made & FIGURES.keys()):
            entry = catalog[name]
            assert isinstance(entry, AbstractVersionedDataset)
            self._run.log_artifact(load_path(entry), "figures")
        Console().print(closing_table(summary))

    def _summarise(self, made: set[str], read: set[str], catalog: DataCatalog) -> Any:
        from adapt_infinity.benchmarks.measures import first_rounds_of_skills, measure
        from adapt_infinity.benchmarks.routing import measure_routing
        from adapt_infinity.reporting.table import RoundSummary

        params = self._params()
        scores, kept = catalog.load("score_matrix"), catalog.load("kept_pool")
        tables = {name: catalog.load(name) for name in ("subset", "cluster_experts") if name in made}
        return RoundSummary(
            stream=params["stream"],
            round=params["round"],
            score_matrix=scores,
            measures=catalog.load("measures") if "measures" in made else measure(scores, {}, {}),
            own_skills=first_rounds_of_skills(kept, params["planned_skills"]),
            rare_skills=frozenset(self._rare_skills()),
            **intake_facts(made, catalog),
            pool_before=len(catalog.load("pool")) if "pool" in made | read else 0,
            pool_after=len(kept),
            samples_probed=int(catalog.load("features").record["rows read"]) if "features" in made else 0,
            routing=measure_routing(catalog.load("answers")) if "answers" in made else {},
            seconds=dict(self._clock.seconds),
            peak_memory_gb=peak_memory_gb(),
            artefacts=round_folder(params["stream"], params["round"]),
            tracking=self._run.where,
            **tables,
        )

    def _rare_skills(self) -> list[str]:
        assert self._context is not None
        sources = self._context.config_loader["globals"]["sources"]
        return [skill for source in sources for skill in source.get("rare") or []]

    def _params(self) -> dict[str, Any]:
        assert self._context is not None
        if self._read_params is None:
            self._read_params = dict(self._context.config_loader["parameters"])
        return self._read_params

    def _project(self) -> Path:
        assert self._context is not None
        return Path(self._context.project_path)


def check_method(training: dict[str, Any], settings: dict[str, Any]) -> None:
    """Check the settings of the round's training method: a typo stops the run before any node."""
    from adapt_infinity.training import methods

    methods.params_of(training["method"], settings)
    methods.check_adapter_policy(training["method"], training["adapter_policy"])


def check_experts(wanted: list[str], probe: dict[str, Any]) -> None:
    """Check that the probe computes what the experts need, before it reads the pool."""
    from adapt_infinity.features import scores

    missing = {
        "gradient_norm": "" if probe["feature"] == "gradient" else "probe.feature=gradient",
        "nll_without_image": "" if probe["image_grounding"] else "probe.image_grounding=true",
    }
    for name in sorted(set(wanted) & set(scores.names())):
        for need in scores.needs(name):
            if missing.get(need):
                raise ValueError(f"selector_experts.experts names {name!r}, which needs {missing[need]}")


def whole_rounds(name: str, run_params: dict[str, Any]) -> list[Any]:
    """The sets of nodes that complete a round: all or, with `--load-versions=pool:…`, all but those of the arrival."""
    whole = pipelines[name]
    given = "pool" in (run_params.get("load_versions") or {})
    if not given or "pool" not in whole.datasets():
        return [whole.nodes]
    return [whole.nodes, whole.from_inputs(*inputs_without_arrival(whole)).nodes]


def make_manifest(name: str, pipeline: Pipeline, catalog: DataCatalog, params: dict[str, Any], code: str) -> Manifest:
    """The manifest of the run that has just succeeded."""
    made = pipeline.all_outputs()
    versions = {
        name: entry.resolve_save_version() if name in made else entry.resolve_load_version()
        for name in sorted(pipeline.datasets())
        if isinstance(entry := catalog[name], AbstractVersionedDataset)
    }
    return Manifest(
        stream=params["stream"],
        round=params["round"],
        pipeline="round" if name == "__default__" else name,
        versions={entry: str(version) for entry, version in versions.items()},
        parameters_hash=parameters_hash(params),
        code_version=code,
        seed=params["seed"],
    )


def code_version(project: Path) -> str:
    """The package's version, with the commit where the project is a git checkout."""
    asked = subprocess.run(
        ["git", "-C", str(project), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return f"{__version__}+{asked.stdout.strip()}" if asked.returncode == 0 else __version__


def intake_facts(made: set[str], catalog: DataCatalog) -> dict[str, Any]:
    """Counts for the summary: arrivals, repairs, rejects by reason, and overlaps with the pool and the benchmarks."""
    if not {"arrivals", "rejects", "overlaps"} <= made:
        return {}
    arrivals, rejects = catalog.load("arrivals"), catalog.load("rejects")
    reasons = rejects.to_table(columns=["reason"])["reason"].to_pylist()
    repairs = pc.value_counts(pc.list_flatten(arrivals.to_table(columns=["repairs"])["repairs"]))
    return {
        "arrived": arrivals.count_rows(),
        "repairs": {str(repair["values"]): repair["counts"].as_py() for repair in repairs},
        "rejects": dict(Counter(map(without_details, reasons)).most_common()),
        "overlaps": summarise(catalog.load("overlaps")),
    }


def flatten(params: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested parameters as `stage.key: value`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flatten(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


def _is_round(pipeline: Pipeline) -> bool:
    return "score_matrix" in pipeline.all_outputs()


def _pipeline_name(run_params: dict[str, Any]) -> str:
    (name,) = run_params["pipeline_names"] or ["__default__"]
    return str(name)

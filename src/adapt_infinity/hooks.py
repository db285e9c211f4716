"""What happens around a round: the clock of its stages, its manifest, its MLflow run and its closing table."""

import hashlib
import json
import resource
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import AbstractVersionedDataset, DataCatalog
from kedro.pipeline import Pipeline

from adapt_infinity import __version__
from adapt_infinity.manifest import Manifest, manifest_path, write_manifest


class StageClock:
    """Seconds spent in each stage: reading inputs, computing and writing results."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage = ""
        self._since = time.perf_counter()

    def enter(self, stage: str) -> None:
        """From now on time belongs to `stage`."""
        now = time.perf_counter()
        if self._stage:
            self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now


class RoundHooks:
    """One object for the process; each run starts it afresh."""

    def __init__(self) -> None:
        self._context: KedroContext | None = None
        self._clock = StageClock()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        self._clock = StageClock()

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str, node: Any) -> None:
        self._clock.enter(node.namespace or node.name)

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        self._clock.enter(node.namespace or node.name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        self._clock.enter("")
        assert self._context is not None
        names = run_params["pipeline_names"] or ["__default__"]
        if len(names) != 1 or "score_matrix" not in pipeline.all_outputs():
            return
        if pipeline.nodes != pipelines[names[0]].nodes:
            return  # a part of a round: its results are versions like any other, but no round is complete by them
        manifest = make_manifest(names[0], pipeline, catalog, self._context.params)
        write_manifest(manifest_path(self._context.project_path, manifest.stream, manifest.round), manifest)


def make_manifest(name: str, pipeline: Pipeline, catalog: DataCatalog, params: dict[str, Any]) -> Manifest:
    """The manifest of the run that has just ended well."""
    made = pipeline.all_outputs()
    versions = {
        name: entry.resolve_save_version() if name in made else entry.resolve_load_version()
        for name in sorted(pipeline.datasets())
        if isinstance(entry := catalog[name], AbstractVersionedDataset)
    }
    spelled = json.dumps(params, default=str, sort_keys=True)
    return Manifest(
        stream=params["stream"],
        round=params["round"],
        pipeline="round" if name == "__default__" else name,
        versions={name: str(version) for name, version in versions.items()},
        parameters_hash=hashlib.sha256(spelled.encode()).hexdigest(),
        code_version=code_version(),
        seed=params["seed"],
    )


def code_version() -> str:
    """The package's version, with the commit where the project is a git checkout."""
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return f"{__version__}+{asked.stdout.strip()}" if asked.returncode == 0 else __version__

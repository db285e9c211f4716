"""The Kedro session of this project: it prepares what a round needs, and refuses a round that cannot run.

- `genesis` is round 0, whatever `--params=round=` says.
- Round 1 runs genesis first if it is missing. Round T > 1 is refused unless round T−1 is complete.
- If the stream's data is missing, the pipeline that `made_by` in globals.yml names makes it first.
- `previous_*` entries load the versions that the previous round's manifest names, unless --load-versions overrides it.
- Parameters that a data strategy presets are overridden by those that the user gives.
- `--load-versions=pool:VERSION` runs the round on a past pool, without an arrival.
"""

from pathlib import Path
from typing import Any

import click
from kedro.framework import project as framework
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from kedro.validation.exceptions import ParameterValidationError

from adapt_infinity import strategies
from adapt_infinity.configuration import check_parameters
from adapt_infinity.intake.records import files
from adapt_infinity.kedro_internals import conf_source, config, project_path, set_runtime_params, versioned_catalog
from adapt_infinity.manifest import OF_GENESIS, PREVIOUS, manifest_path, pins, read_manifest

SPLITS = ("train", "validation", "test")
USERS_ERRORS = (ValueError, FileNotFoundError, ImportError, ParameterValidationError)


class RoundSession(KedroSession):
    """`kedro run` for rounds; any other pipeline runs as in Kedro."""

    def __enter__(self) -> "RoundSession":
        return self

    def run(  # type: ignore[override]
        self,
        pipeline_name: str | None = None,
        pipeline_names: list[str] | None = None,
        runner: Any = None,
        load_versions: dict[str, str] | None = None,
        **selection: Any,
    ) -> dict[str, Any]:
        """As KedroSession.run. In a command, an error that the user caused is one line, without a traceback."""
        names = pipeline_names or [pipeline_name or "__default__"]
        try:
            if runner is not None and not isinstance(runner, SequentialRunner):
                raise ValueError(
                    f"{type(runner).__name__} is refused: a round's stages share one model's memory; parallel work "
                    "happens inside the stages. Leave --runner out."
                )
            pinned = self._prepare(names)
            if "pool" in (load_versions or {}) and not any(selection.values()):
                selection["from_inputs"] = inputs_without_arrival(pipelines[names[0]])
            return super().run(
                pipeline_names=names if names != ["__default__"] else None,
                runner=runner,
                load_versions={**pinned, **(load_versions or {})},
                **selection,
            )
        except (*USERS_ERRORS, DatasetError) as error:
            cause = users_error(error)
            if cause is None or click.get_current_context(silent=True) is None:
                raise
            raise click.ClickException(str(cause)) from error

    def _prepare(self, names: list[str]) -> dict[str, str]:
        """Check the parameters, make what is missing and return the versions to load."""
        rounds = [name for name in names if is_round(name)]
        if rounds and len(names) > 1:
            raise ValueError(f"a round is run by itself, not together with others: {', '.join(names)}")
        if rounds:
            preset = getattr(strategies.load(strategies.of_pipeline(names[0])), "PRESETS", {})
            set_runtime_params(self, strategies.merged(preset, self._runtime_params()))
        self.check_parameters()
        if names == ["genesis"]:
            set_runtime_params(self, {**self._runtime_params(), "round": 0})
            self.make_data()
            return {}
        if not rounds:
            return {}
        round = self._round()
        self.make_data()
        previous = self._manifest_path(round - 1)
        if round == 1 and not previous.exists():
            self._nested(["genesis"])
        manifest = read_manifest(previous)
        if manifest is None:
            raise ValueError(
                f"round {round} needs round {round - 1}, which is not complete (no {previous}); "
                f"run `kedro run --params=round={round - 1}` first, or `kedro lifelong --last {round}`"
            )
        pinned = pins(manifest)
        genesis = read_manifest(self._manifest_path(0))
        assert genesis is not None, "a round before this one is complete, so genesis is"
        pinned |= {name: genesis.versions[made] for name, made in OF_GENESIS.items() if made in genesis.versions}
        missing = (pipelines[names[0]].inputs() & (PREVIOUS.keys() | OF_GENESIS.keys())) - pinned.keys()
        if missing:
            raise ValueError(
                f"round {round} reads {', '.join(sorted(missing))}, which round {round - 1} "
                f"(pipeline {manifest.pipeline}) did not make; run it again under a strategy that does"
            )
        return pinned

    def check_parameters(self) -> None:
        """`ValueError`, in one line, for the first key or value of the parameters or the sources that is wrong."""
        from adapt_infinity.datasets.sources import check_source

        for source in self.sources()[1]:  # first: parameters are made of them, too
            check_source(source)
        check_parameters(config(self)["parameters"])

    def _round(self) -> int:
        asked = self._runtime_params().get("round", 1)
        if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
            raise ValueError(f"round must be a whole number from 1, got {asked!r}")
        return asked

    def _manifest_path(self, round: int) -> Path:
        return manifest_path(project_path(self), self.stream(), round)

    def stream(self) -> str:
        """The stream's name: --params=stream=… or globals.yml."""
        given = self._runtime_params().get("stream")
        return str(given or self._globals()["stream"])

    def sources(self) -> tuple[Path, list[dict[str, Any]]]:
        """The stream's data folder, and its sources."""
        declared = self._globals()
        root = project_path(self) / str(self._runtime_params().get("data") or declared["data"])
        return root, [dict(source) for source in declared["sources"]]

    def make_data(self) -> None:
        """The stream's files are there, or are made by the pipeline that makes them."""
        declared = self._globals()
        root, sources = self.sources()
        named = [root / source[split] for source in sources for split in SPLITS if source.get(split)]
        missing = [path for path in named if not files(path)]
        if missing and declared["made_by"]:
            self._nested([declared["made_by"]])
        elif missing:
            raise ValueError(f"the stream's data is not there (no {missing[0]}); see `kedro data` and globals.yml")

    def _nested(self, names: list[str]) -> None:
        """Run another pipeline first, in a session of its own, under the same configuration."""
        with open_session(
            project_path(self), self.store.get("env"), self._runtime_params(), conf_source(self)
        ) as session:
            session.run(pipeline_names=names)

    def _runtime_params(self) -> dict[str, Any]:
        return dict(self.store.get("runtime_params") or {})

    def _globals(self) -> dict[str, Any]:
        return dict(config(self)["globals"])


def users_error(error: BaseException | None) -> BaseException | None:
    """The error that the user caused: `error`, or the one that Kedro wrapped in a `DatasetError`; None if neither."""
    while isinstance(error, DatasetError):
        if error.__cause__ is None:
            return error  # Kedro's own, such as a version that does not exist
        error = error.__cause__
    return error if isinstance(error, USERS_ERRORS) else None


def inputs_without_arrival(pipeline: Pipeline) -> list[str]:
    """From which entries a round runs whose pool is given: nothing arrives, all the rest of it happens."""
    return ["pool", *sorted({"validation_sources"} & pipeline.inputs())]


def open_session(
    project: Path, env: str | None = None, params: dict[str, Any] | None = None, conf_source: str | None = None
) -> RoundSession:
    """A session from Python, with `params` as `--params` would give them."""
    if framework.PACKAGE_NAME is None:  # once a process: every time makes all pipelines anew
        bootstrap_project(project)
    session = RoundSession.create(project_path=project, env=env, runtime_params=params or {}, conf_source=conf_source)
    assert isinstance(session, RoundSession)
    return session


def open_round(
    project: Path, stream: str, round: int, env: str | None = None, params: dict[str, Any] | None = None
) -> DataCatalog:
    """The catalog of a finished round, every entry at the version that its manifest names; for notebooks.

    `params` are changed as `--params` would change them.
    """
    manifest = read_manifest(manifest_path(project, stream, round))
    if manifest is None:
        raise ValueError(f"round {round} of stream {stream!r} is not complete; run `kedro run --params=round={round}`")
    asked = {"seed": manifest.seed, **(params or {}), "stream": stream, "round": round}
    return versioned_catalog(open_session(project, env, asked).load_context(), manifest.versions)


def is_round(name: str) -> bool:
    """Whether a pipeline's name is that of a round, under whatever strategy."""
    return name in ("__default__", "round") or name.startswith("round_")

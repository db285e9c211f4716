"""Kedro's command line as a user runs it, and what it has written."""

import os
import subprocess
import sys
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from adapt_infinity.manifest import manifest_path, read_manifest

PRELOADED = (  # what a round imports; the fork server would skip a wrong name without a word
    "kedro.framework.cli.cli",
    "mlflow",
    "adapt_infinity.benchmarks.answering",
    "adapt_infinity.features.probe",
    "adapt_infinity.pseudo_skills.finding",
    "adapt_infinity.reporting.results",
    "adapt_infinity.subset.selecting",
    "adapt_infinity.training.round",
)
assert all(find_spec(name) for name in PRELOADED)
FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(list(PRELOADED))


def start_kedro(project: Path, *words: str) -> BaseProcess:
    """A command in a process of its own, forked off one that has imported what takes seconds to import.

    Its output goes to stdout.log and stderr.log in `project`.
    """
    logs = [project / f"{name}.log" for name in ("stdout", "stderr")]
    process = FORKED.Process(target=_command, args=(project, words, _environment(), *logs))
    process.start()
    return process


def kedro(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The same, once it has ended."""
    process = start_kedro(project, *words)
    process.join()
    assert process.exitcode is not None
    stdout, stderr = ((project / f"{name}.log").read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(["kedro", *words], process.exitcode, stdout, stderr)


def fresh_kedro(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The same from nothing, as a shell starts it."""
    command = [sys.executable, "-m", "kedro", *words]
    return subprocess.run(command, cwd=project, env=_environment(), capture_output=True, text=True, check=False)


def _environment() -> dict[str, str]:
    """Of the test that asks, not of the time when the server that forks began."""
    return {**os.environ, "COLUMNS": "200"}


def _command(project: Path, words: tuple[str, ...], environment: dict[str, str], stdout: Path, stderr: Path) -> None:
    os.environ.update(environment)
    from kedro.framework.cli.cli import main

    for number, path in enumerate((stdout, stderr), start=1):
        with path.open("w") as file:
            os.dup2(file.fileno(), number)
    os.chdir(project)
    sys.argv = ["kedro", *words]
    main()


def entry(project: Path, stream: str, round: int, name: str) -> Path:
    """The version of a dataset that the round's manifest names."""
    manifest = read_manifest(manifest_path(project, stream, round))
    assert manifest is not None
    return project / f"data/runs/{stream}/round_{round}/{name}/{manifest.versions[name.split('.')[0]]}/{name}"

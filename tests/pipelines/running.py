"""Helpers that run Kedro commands as a user does, and find the files that they wrote."""

import json
import os
import subprocess
import sys
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from adapt_infinity.manifest import manifest_path, read_manifest

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(["__main__", "tests.pipelines.running", "tests.pipelines.preloaded"])


def start_kedro(project: Path, *words: str) -> BaseProcess:
    """Start a command in a process that is forked from one with all slow imports done.

    Its output goes to stdout.log and stderr.log in `project`.
    """
    logs = [project / f"{name}.log" for name in ("stdout", "stderr")]
    process = FORKED.Process(target=_command, args=(project, words, _environment(), *logs))
    process.start()
    return process


def kedro(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a forked process, and wait for its end."""
    process = start_kedro(project, *words)
    process.join()
    assert process.exitcode is not None
    stdout, stderr = ((project / f"{name}.log").read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(["kedro", *words], process.exitcode, stdout, stderr)


IMPORTED = """
import atexit, json, sys
file, sys.argv = sys.argv[1], ["kedro", *sys.argv[2:]]
atexit.register(lambda: json.dump(sorted({name.partition(".")[0] for name in sys.modules}), open(file, "w")))
from kedro.framework.cli.cli import main
main()
"""


def imported_packages(project: Path, *words: str) -> set[str]:
    """The packages that a command, run in a new Python process, has imported when it ends without an error."""
    file = project / "imported.json"
    command = [sys.executable, "-c", IMPORTED, str(file), *words]
    done = subprocess.run(command, cwd=project, env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(file.read_text()))


def _environment() -> dict[str, str]:
    """The environment of the calling test; that of the fork server may be older."""
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
    """The path of a dataset, at the version that the round's manifest names."""
    manifest = read_manifest(manifest_path(project, stream, round))
    assert manifest is not None
    return project / f"data/runs/{stream}/round_{round}/{name}/{manifest.versions[name.split('.')[0]]}/{name}"

"""A small project and its first rounds, for tests of the command line; all stages run, with little data."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.conftest import PROJECT
from tests.pipelines.running import kedro

SMALL = {
    "embedded_stream": {"train_size": 90, "design_size": 1, "test_size": 4},
    "subset": {"budget": 64},
    "pruning": {"pool_size": 80},
    "pseudo_skills": {"k": 6},
    "probe": {"dim": 256},
    "training": {"epochs": 1},
    "benchmarks": {"items_per_skill": 3},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project's configuration and code; one per test file."""
    return new_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def first_round(project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the first round. The project has this round only."""
    return copy_rounds(project, tmp_path_factory, 1)


@pytest.fixture(scope="module")
def two_rounds(project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the second round. The project has both rounds."""
    return copy_rounds(project, tmp_path_factory, 2)


def copy_rounds(project: Path, tmp_path_factory: pytest.TempPathFactory, rounds: int) -> str:
    """Copy finished rounds into `project`. Each is run once for all test processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    finished, output = shared / f"rounds_{rounds}", shared / f"rounds_{rounds}.txt"
    with FileLock(shared / f"rounds_{rounds}.lock"):
        if not output.exists():
            shutil.rmtree(finished, ignore_errors=True)
            new_project(finished)
            if rounds == 1:
                done = kedro(finished, "run", "--pipeline=round")
            else:
                copy_rounds(finished, tmp_path_factory, rounds - 1)
                done = kedro(finished, "lifelong", "--last", str(rounds))
            assert done.returncode == 0, done.stdout + done.stderr
            output.write_text(done.stdout)
    shutil.copytree(finished, project, dirs_exist_ok=True, symlinks=True)
    move_store(project / "mlflow.db", finished, project)
    return output.read_text()


def new_project(folder: Path) -> Path:
    """Copy code and configuration to `folder`, with small sizes in conf/local."""
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    shutil.copytree(PROJECT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "conf/local").mkdir()
    (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(SMALL))
    return folder


def move_store(store: Path, before: Path, after: Path) -> None:
    """Replace the absolute paths that MLflow stores for artifacts."""
    with closing(sqlite3.connect(store)) as rows, rows:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            rows.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(before), str(after)))

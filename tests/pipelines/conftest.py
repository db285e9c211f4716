"""A project of its own and its first round, for tests that use the command line; small, but nothing left out."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.conftest import PROJECT
from tests.pipelines.running import fresh_kedro, kedro

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
    """A copy of the project: configuration and code."""
    return new_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def first_round(project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the first round printed. The project has that round, and no other."""
    return take_over(project, tmp_path_factory, 1)


@pytest.fixture(scope="module")
def two_rounds(project: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the second round printed. The project has both."""
    return take_over(project, tmp_path_factory, 2)


def take_over(project: Path, tmp_path_factory: pytest.TempPathFactory, rounds: int) -> str:
    """Copy finished rounds into `project`. Each is run once for all test processes, the first one from nothing."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    made, printed = shared / f"rounds_{rounds}", shared / f"rounds_{rounds}.txt"
    with FileLock(shared / f"rounds_{rounds}.lock"):
        if not printed.exists():
            shutil.rmtree(made, ignore_errors=True)
            new_project(made)
            if rounds == 1:
                done = fresh_kedro(made, "run", "--pipeline=round")
            else:
                take_over(made, tmp_path_factory, rounds - 1)
                done = kedro(made, "lifelong", "--last", str(rounds))
            assert done.returncode == 0, done.stdout + done.stderr
            printed.write_text(done.stdout)
    shutil.copytree(made, project, dirs_exist_ok=True, symlinks=True)
    move_store(project / "mlflow.db", made, project)
    return printed.read_text()


def new_project(folder: Path) -> Path:
    """The code and the configuration of this project, in small."""
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    shutil.copytree(PROJECT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "conf/local").mkdir()
    (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(SMALL))
    return folder


def move_store(store: Path, before: Path, after: Path) -> None:
    """MLflow writes down where artifacts lie, from the root on."""
    with closing(sqlite3.connect(store)) as rows, rows:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            rows.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(before), str(after)))

"""A project of its own and its first round, for tests that use the command line; small, but nothing left out."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT
from tests.pipelines.running import fresh_kedro

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
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    shutil.copytree(PROJECT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / "conf/local").mkdir()
    (folder / "conf/local/parameters.yml").write_text(yaml.safe_dump(SMALL))
    return folder


@pytest.fixture(scope="module")
def first_round(project: Path) -> subprocess.CompletedProcess[str]:
    done = fresh_kedro(project, "run", "--pipeline=round")
    assert done.returncode == 0, done.stdout + done.stderr
    return done

"""Kedro as a user runs it, and what it has written."""

import os
import subprocess
import sys
from pathlib import Path

from adapt_infinity.manifest import manifest_path, read_manifest


def kedro(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kedro", *words]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def entry(project: Path, stream: str, round: int, name: str) -> Path:
    """The version of a dataset that the round's manifest names."""
    manifest = read_manifest(manifest_path(project, stream, round))
    assert manifest is not None
    return project / f"data/runs/{stream}/round_{round}/{name}/{manifest.versions[name.split('.')[0]]}/{name}"

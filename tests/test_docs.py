"""The documentation site builds without a warning: no broken link, no page outside the navigation, no unknown name."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import PROJECT


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in ("index", "method", "contributing", "api/pruning"):
        assert (tmp_path / f"{page}.html").is_file()
    remote = [line for line in (tmp_path / "index.html").read_text().splitlines() if 'src="http' in line]
    assert remote == [], "the site must work offline"

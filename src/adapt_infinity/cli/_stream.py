"""Loading finished rounds of a stream, and printing tables: shared by `kedro pool`, `kedro export`, `kedro data`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
from kedro.framework.cli.utils import env_option
from kedro.io import DataCatalog

from adapt_infinity.manifest import Manifest, manifest_path, read_manifest, round_folder
from adapt_infinity.pool.history import RoundRecord
from adapt_infinity.pool.pool import Pool

TABLES = ("subset", "cluster_experts", "overlaps")  # of a round, if its strategy makes them


def stream_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --stream and --env to a command."""
    stream = click.option("--stream", default="", help="Name of the stream; default: the one of the configuration.")
    return stream(env_option(command))


def current_project() -> Path:
    """The root folder of the Kedro project that contains the working directory."""
    from kedro.utils import find_kedro_project

    project = find_kedro_project(Path.cwd())
    assert project is not None, "Kedro offers the commands of a project only inside it"
    return project


class Stream:
    """A stream and its finished rounds; `name` is "" for the stream of the configuration."""

    def __init__(self, name: str, env: str | None) -> None:
        from adapt_infinity.session import open_session

        self.project, self.env = current_project(), env
        self.name = name or open_session(self.project, env).stream()
        folders = self.folder.glob("round_*") if self.folder.is_dir() else []
        numbers = sorted(int(folder.name.removeprefix("round_")) for folder in folders)
        self.rounds = [number for number in numbers if number and self._read_manifest(number) is not None]

    @property
    def folder(self) -> Path:
        """The folder of the stream's results."""
        return (self.project / round_folder(self.name, 0)).parent

    @property
    def last(self) -> int:
        """The number of the last complete round; ClickException if there is none."""
        self._check_rounds()
        return self.rounds[-1]

    def manifest(self, round: int) -> Manifest:
        """The manifest of a round; ClickException if the round is not complete."""
        manifest = self._read_manifest(round)
        if manifest is None:
            raise click.ClickException(f"round {round} of {self.name} is not complete")
        return manifest

    def catalog(self, round: int) -> DataCatalog:
        """The catalog of a complete round, with all entries at the versions of its manifest.

        Unlike `session.open_round` it leaves parameters unchecked, because checking imports all pipelines and torch.
        """
        from adapt_infinity.kedro_internals import versioned_catalog
        from adapt_infinity.session import open_session

        manifest = self.manifest(round)
        params = {"seed": manifest.seed, "stream": self.name, "round": round}
        context = open_session(self.project, self.env, params).load_context()
        return versioned_catalog(context, manifest.versions, check_parameters=False)

    def pool(self, which: str) -> Pool:
        """A past pool: the one that round number `which` left, or the version of that name."""
        from kedro.io.core import Version

        from adapt_infinity.datasets.pool import PoolDataset

        if re.fullmatch(r"\d+", which):
            version = self.manifest(int(which)).versions["kept_pool"]
            path = self.project / round_folder(self.name, int(which)) / "kept_pool.json"
        else:
            version, path = which, self.folder / "round_0/pool.json"
        dataset = PoolDataset(filepath=str(path), version=Version(version, None))
        if not dataset.exists():
            raise click.ClickException(
                f"stream {self.name} has no pool of version {which}; `kedro pool history` lists the versions"
            )
        pool = dataset.load()
        assert isinstance(pool, Pool)
        return pool

    def records(self) -> list[RoundRecord]:
        """One record per complete round; ClickException if there is none."""
        self._check_rounds()
        return [self._record(number) for number in self.rounds]

    def _check_rounds(self) -> None:
        if not self.rounds:
            raise click.ClickException(f"stream {self.name!r} has no complete round; run `kedro run` first")

    def _read_manifest(self, round: int) -> Manifest | None:
        return read_manifest(manifest_path(self.project, self.name, round))

    def _record(self, round: int) -> RoundRecord:
        catalog, manifest = self.catalog(round), self.manifest(round)
        tables = {name: catalog.load(name) for name in TABLES if name in manifest.versions}
        rejected = catalog.load("rejects").count_rows() if "rejects" in manifest.versions else 0
        return RoundRecord(
            number=round,
            version=manifest.versions["kept_pool"],
            joined_pool=catalog.load("pool"),
            kept_pool=catalog.load("kept_pool"),
            rejected=rejected,
            **tables,
        )


def print_table(table: pd.DataFrame, title: str = "", uncut: str = "") -> None:
    """Print a table on the terminal; the column `uncut` is never shortened."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    printed = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", padding=(0, 1, 0, 0)
    )
    for name in table.columns:
        number = pd.api.types.is_numeric_dtype(table[name])
        width = int(table[name].str.len().max()) if name == uncut and len(table) else None
        printed.add_column(str(name), justify="right" if number else "left", min_width=width, overflow="fold")
    for row in table.itertuples(index=False):
        printed.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    Console().print(printed)

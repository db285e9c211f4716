"""What commands that look at finished rounds share: the stream, its rounds, tables on the terminal."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pandas as pd
from kedro.framework.cli.utils import env_option
from kedro.io import DataCatalog

from adapt_infinity.manifest import manifest_path, read_manifest, round_folder
from adapt_infinity.pool.history import RoundRecord
from adapt_infinity.pool.pool import Pool

TABLES = ("subset", "cluster_experts", "overlaps")  # of a round, if its strategy makes them


def of_a_stream(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which stream is meant."""
    chosen = click.option("--stream", default="", help="The stream; default: that of the configuration.")
    return chosen(env_option(command))


class Stream:
    """A stream's finished rounds."""

    def __init__(self, name: str, env: str | None) -> None:
        from kedro.utils import find_kedro_project

        from adapt_infinity.session import open_session

        found = find_kedro_project(Path.cwd())
        assert found is not None, "kedro offers this command inside a project only"
        self.project, self.env = found, env
        self.name = name or open_session(found, env).stream()
        folders = self.folder.glob("round_*") if self.folder.is_dir() else []
        numbers = sorted(int(folder.name.removeprefix("round_")) for folder in folders)
        self.rounds = [number for number in numbers if number and self.manifest(number) is not None]

    @property
    def folder(self) -> Path:
        """Where its results lie."""
        return (self.project / round_folder(self.name, 0)).parent

    @property
    def last(self) -> int:
        """The last complete round."""
        if not self.rounds:
            raise click.ClickException(f"stream {self.name!r} has no complete round; `kedro run` makes the first")
        return self.rounds[-1]

    def manifest(self, round: int) -> Any:
        """Of a round, if it is complete."""
        return read_manifest(manifest_path(self.project, self.name, round))

    def catalog(self, round: int, params: dict[str, Any] | None = None) -> DataCatalog:
        """A round's entries, at the versions that belong together; `params` as `--params` would give them."""
        from adapt_infinity.session import open_round

        return open_round(self.project, self.name, round, self.env, params)

    def pool(self, which: str) -> Pool:
        """A past pool: what a round left (its number), or any version by its name."""
        from kedro.io.core import Version

        from adapt_infinity.datasets.pool import PoolDataset

        if re.fullmatch(r"\d+", which):
            if int(which) not in (0, *self.rounds):
                raise click.ClickException(f"round {which} of {self.name} is not complete")
            version = self.manifest(int(which)).versions["kept_pool"]
            place = self.project / round_folder(self.name, int(which)) / "kept_pool.json"
        else:
            version, place = which, self.folder / "round_0/pool.json"
        dataset = PoolDataset(filepath=str(place), version=Version(version, None))
        if not dataset.exists():
            raise click.ClickException(f"stream {self.name} has no pool of version {which}; `kedro pool history`")
        found = dataset.load()
        assert isinstance(found, Pool)
        return found

    def records(self) -> list[RoundRecord]:
        """Every complete round, as its tables tell it."""
        return [self._record(number) for number in self.rounds]

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


def show(table: pd.DataFrame, title: str = "", whole: str = "") -> None:
    """A table on the terminal; the column `whole` is never cut short."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", padding=(0, 1, 0, 0)
    )
    for name in table.columns:
        number = pd.api.types.is_numeric_dtype(table[name])
        width = int(table[name].str.len().max()) if name == whole and len(table) else None
        drawn.add_column(str(name), justify="right" if number else "left", min_width=width, overflow="fold")
    for row in table.itertuples(index=False):
        drawn.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    Console().print(drawn)

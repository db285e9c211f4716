"""The commands that this project adds to Kedro's, one file per command.

- `lifelong`: run several rounds of a stream
- `study`: run and compare strategies and training methods
- `pool`: show, compare, restore and verify pools
- `export`: write samples in the format of another tool
- `data`: list the datasets of a stream and how to get them

Files that start with `_` hold what commands share: `_rounds` (running rounds), `_cells` (running a study's cells) and
`_stream` (loading finished rounds, printing tables). Torch and MLflow are imported inside the functions that need them.
"""

import click

from adapt_infinity.cli._rounds import default_stream
from adapt_infinity.cli.data import data
from adapt_infinity.cli.export import export
from adapt_infinity.cli.lifelong import lifelong
from adapt_infinity.cli.pool import pool
from adapt_infinity.cli.study import study

__all__ = ["cli", "default_stream"]


@click.group(name=__file__)
def cli() -> None:
    """Commands of this project."""


cli.add_command(lifelong)
cli.add_command(study)
cli.add_command(pool)
cli.add_command(export)
cli.add_command(data)

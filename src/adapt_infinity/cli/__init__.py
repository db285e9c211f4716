"""Commands of this project, beside Kedro's own."""

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

"""`kedro lifelong`: the whole stream, one Kedro session a round. Complete rounds are skipped, so it can be resumed."""

from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.utils import env_option

from adapt_infinity.kedro_internals import split_params


@click.command()
@click.option("--first", default=1, show_default=True, help="The first round to run.")
@click.option("--last", required=True, type=int, help="The last round to run.")
@click.option(
    "--strategy",
    default="adapt_inf",
    show_default=True,
    help="The data strategy: a file in strategies/, or file:argument.",
)
@click.option("--stream", default="", help="The name under which results are kept; default: the stream's own.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything that is drawn.")
@click.option("--params", default="", callback=split_params, help="Further parameters, as for `kedro run`.")
@click.option("--again", is_flag=True, help="Run rounds that are complete already once more.")
@env_option
def lifelong(
    first: int, last: int, strategy: str, stream: str, seed: int, params: dict[str, Any], again: bool, env: str | None
) -> None:
    """Run rounds FIRST..LAST of the stream, each in a session of its own."""
    from kedro.utils import find_kedro_project

    from adapt_infinity.cli._rounds import MadeOtherwiseError, default_stream, run_rounds
    from adapt_infinity.session import open_session

    if not 1 <= first <= last:
        raise click.ClickException(f"--first and --last must satisfy 1 <= first <= last, got {first} and {last}")
    project = find_kedro_project(Path.cwd())
    assert project is not None, "kedro offers this command inside a project only"
    asked: dict[str, Any] = {**params, "seed": seed}
    asked["stream"] = stream or default_stream(open_session(project, env, asked).stream(), strategy, seed)
    try:
        run_rounds(project, env, strategy, asked, range(first, last + 1), again, click.echo)
    except MadeOtherwiseError as error:
        raise click.ClickException(f"{error}; give --again to run it once more, or --stream to keep both") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error

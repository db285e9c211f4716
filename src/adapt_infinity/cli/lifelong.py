"""`kedro lifelong`: run several rounds of a stream, each in its own Kedro session. Complete rounds are skipped."""

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
@click.option("--stream", default="", help="Name of the stream; default: made of strategy and seed.")
@click.option("--seed", default=0, show_default=True, help="Seed of all random choices.")
@click.option("--params", default="", callback=split_params, help="Further parameters, as for `kedro run`.")
@click.option("--again", is_flag=True, help="Run complete rounds once more.")
@env_option
def lifelong(
    first: int, last: int, strategy: str, stream: str, seed: int, params: dict[str, Any], again: bool, env: str | None
) -> None:
    """Run the rounds FIRST to LAST of the stream, each in its own session."""
    from adapt_infinity.cli._rounds import OtherParametersError, default_stream, run_rounds
    from adapt_infinity.cli._stream import current_project
    from adapt_infinity.session import open_session

    if not 1 <= first <= last:
        raise click.ClickException(f"--first and --last must satisfy 1 <= first <= last, got {first} and {last}")
    project = current_project()
    given: dict[str, Any] = {**params, "seed": seed}
    given["stream"] = stream or default_stream(open_session(project, env, given).stream(), strategy, seed)
    try:
        run_rounds(project, env, strategy, given, range(first, last + 1), again, click.echo)
    except OtherParametersError as error:
        raise click.ClickException(f"{error}; give --again to run it once more, or --stream to keep both") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error

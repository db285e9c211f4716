"""`kedro export`: write the samples that a round selected or kept in a format that other tools train from."""

from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd

from adapt_infinity.cli._stream import Stream, stream_options

WHAT = ("subset", "pool", "kept_pool", "arrivals", "benchmark_items")
BLOCK = 4096  # rows per block


@click.command()
@click.option("--what", type=click.Choice(WHAT), default="subset", show_default=True, help="Which samples to write.")
@click.option("--format", "format_", default="llava", show_default=True, help="Output format: llava, chat, …")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="The folder to create.")
@click.option("--round", "round_", type=int, help="Number of the round; default: the last complete one.")
@stream_options
def export(what: str, format_: str, to: Path, round_: int | None, stream: str, env: str | None) -> None:
    """Write samples and their pictures to a folder, for LLaVA, LLaMA-Factory, TRL and others."""
    from adapt_infinity.export import export_samples

    opened = Stream(stream, env)
    round = opened.last if round_ is None else round_
    if round not in opened.rounds:
        raise click.ClickException(f"round {round} of {opened.name} is not complete")
    catalog = opened.catalog(round)

    def blocks() -> Iterator[pd.DataFrame]:
        if what == "benchmark_items":
            yield catalog.load("benchmark_items")
        elif what == "arrivals":
            yield from (batch.to_pandas() for batch in catalog.load("arrivals").to_batches(batch_size=BLOCK))
        elif what == "subset":
            table = catalog.load("subset")
            ids = table.loc[table["selected"], "sample_id"].sort_values().to_numpy()
            pool = catalog.load("pool")
            yield from (pool.rows(ids[start : start + BLOCK]) for start in range(0, len(ids), BLOCK))
        else:
            yield from catalog.load(what).windows(BLOCK)

    try:
        count = export_samples(blocks(), catalog.load("pictures"), format_, to)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count:,} samples of {opened.name}, round {round}: {to}")

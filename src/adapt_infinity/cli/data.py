"""`kedro data`: list the datasets of a stream, whether their files exist, and how to download datasets."""

from pathlib import Path
from typing import Any

import click
import pandas as pd
from kedro.framework.cli.utils import env_option

from adapt_infinity.cli._stream import current_project, print_table


@click.command()
@click.argument("preset", default="")
@env_option
def data(preset: str, env: str | None) -> None:
    """List the datasets of the stream and whether their files exist, or print how to get PRESET."""
    from adapt_infinity.intake import presets

    if preset:
        try:
            click.echo(format_preset(presets.load(preset)))
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        return
    from adapt_infinity.session import open_session

    root, sources = open_session(current_project(), env).sources()
    click.echo(f"below {root}:")
    print_table(pd.DataFrame([source_row(root, source) for source in sources]))
    click.echo(f"presets (`kedro data NAME` prints how to get one): {', '.join(presets.names())}")


def source_row(root: Path, source: dict[str, Any]) -> dict[str, str]:
    """One row per source: its files and its folder of pictures, each "there" or "missing"."""
    row = {"source": source["name"], "format": source["format"]}
    for split in ("train", "test"):
        path = source.get(split)
        expected = (source.get("expected") or {}).get(split)
        samples = f" ({expected:,} samples)" if expected else ""
        row[split] = f"{_status(root / path)}: {path}{samples}" if path else ""
    pictures = source.get("pictures")
    row["pictures"] = f"{_status(root / pictures)}: {pictures}" if pictures else ""
    return row


def format_preset(preset: dict[str, Any]) -> str:
    """A preset as text: what it is, what to download, and where to put it."""
    expected = preset["expected"]
    counts = ", ".join(f"{split} {expected[split]:,}" for split in ("train", "test") if expected.get(split))
    note = f" ({expected['note']})" if expected.get("note") else ""
    lines = [preset["about"], "", "download:", *(f"  {item}" for item in preset["download"])]
    lines += ["", "put below the stream's data folder:", *(f"  {line}" for line in preset["layout"].splitlines())]
    lines += ["", f"samples: {counts}{note}", f"licence: {preset['licence']}", f"from: {preset['cite']}"]
    return "\n".join(lines)


def _status(path: Path) -> str:
    from adapt_infinity.intake.records import files

    return "there" if path.is_dir() or files(path) else "missing"

"""`kedro data`: which datasets a stream reads, what of them is in place, and what there is to download."""

from pathlib import Path
from typing import Any

import click
import pandas as pd
from kedro.framework.cli.utils import env_option

from adapt_infinity.cli._stream import show


@click.command()
@click.argument("preset", default="")
@env_option
def data(preset: str, env: str | None) -> None:
    """List the datasets of the stream and whether their files are there; or say how to get PRESET."""
    from adapt_infinity.intake import presets

    if preset:
        try:
            click.echo(described(presets.load(preset)))
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        return
    from kedro.utils import find_kedro_project

    from adapt_infinity.session import open_session

    project = find_kedro_project(Path.cwd())
    assert project is not None, "kedro offers this command inside a project only"
    root, sources = open_session(project, env).sources()
    click.echo(f"below {root}:")
    show(pd.DataFrame([state(root, source) for source in sources]))
    click.echo(f"presets, each with `kedro data NAME`: {', '.join(presets.names())}")


def state(root: Path, source: dict[str, Any]) -> dict[str, str]:
    """A source's row: its files and its pictures' folder, each there or missing."""
    row = {"source": source["name"], "format": source["format"]}
    for split in ("train", "test"):
        path = source.get(split)
        expected = (source.get("expected") or {}).get(split)
        samples = f" ({expected:,} samples)" if expected else ""
        row[split] = f"{_there(root / path)}: {path}{samples}" if path else ""
    pictures = source.get("pictures")
    row["pictures"] = f"{_there(root / pictures)}: {pictures}" if pictures else ""
    return row


def described(preset: dict[str, Any]) -> str:
    """A preset for a reader."""
    expected = preset["expected"]
    counts = ", ".join(f"{split} {expected[split]:,}" for split in ("train", "test") if expected.get(split))
    note = f" ({expected['note']})" if expected.get("note") else ""
    lines = [preset["about"], "", "download:", *(f"  {item}" for item in preset["download"])]
    lines += ["", "put below the stream's data folder:", *(f"  {line}" for line in preset["layout"].splitlines())]
    lines += ["", f"samples: {counts}{note}", f"licence: {preset['licence']}", f"from: {preset['cite']}"]
    return "\n".join(lines)


def _there(path: Path) -> str:
    from adapt_infinity.intake.records import files

    return "there" if path.is_dir() or files(path) else "missing"

"""`kedro pool`: what is in the pool, how it came to be, why a sample is in it or not; restore; verify."""

import json
from dataclasses import replace
from inspect import signature
from typing import Any

import click

from adapt_infinity.cli._stream import Stream, of_a_stream, show
from adapt_infinity.kedro_internals import split_params


@click.group()
def pool() -> None:
    """Look into the pool of a stream, past and present."""


@pool.command(name="show")
@of_a_stream
def show_pool(stream: str, env: str | None) -> None:
    """Size and composition: by source, skill and cluster."""
    from adapt_infinity.pool.history import composition, summarise_clusters

    chosen = Stream(stream, env)
    record = chosen.records()[-1] if chosen.last else None
    assert record is not None
    click.echo(
        f"{chosen.name} after round {record.number}: {len(record.kept_pool):,} of {record.kept_pool.size:,} samples"
    )
    show(composition(record.kept_pool, "source"))
    show(composition(record.kept_pool, "skill"))
    clusters = summarise_clusters(record)
    if len(clusters):
        show(clusters, f"clusters of round {record.number}")


@pool.command()
@of_a_stream
def history(stream: str, env: str | None) -> None:
    """A line a round, with the version of the pool that it left."""
    from adapt_infinity.pool.history import history as tell

    chosen = Stream(stream, env)
    assert chosen.last
    show(tell(chosen.records()), chosen.name, whole="version")


@pool.command()
@click.argument("before")
@click.argument("after")
@of_a_stream
def diff(before: str, after: str, stream: str, env: str | None) -> None:
    """What came and went from BEFORE to AFTER, each the number of a round or the version of a pool."""
    from adapt_infinity.pool.history import difference

    chosen = Stream(stream, env)
    left, right = chosen.pool(before), chosen.pool(after)
    click.echo(f"{before}: {len(left):,} samples; {after}: {len(right):,} samples")
    show(difference(left, right))


@pool.command()
@click.argument("sample")
@of_a_stream
def why(sample: str, stream: str, env: str | None) -> None:
    """The life of SAMPLE (its number, or source/id): arrived, judged, chosen or not, dropped because of which other."""
    from adapt_infinity.pool.history import find_sample, sample_history

    chosen = Stream(stream, env)
    items = chosen.catalog(chosen.last).load("benchmark_items")
    records = chosen.records()
    try:
        for line in sample_history(find_sample(records[-1].kept_pool, sample), records, items):
            click.echo(line)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@pool.command()
@click.option("--round", "round_", type=int, help="Undo the pruning of this round.")
@click.option("--samples", default="", help="Or restore these samples, by number: 3,17,42.")
@of_a_stream
def restore(round_: int | None, samples: str, stream: str, env: str | None) -> None:
    """Bring pruned samples back into the pool that the next round starts from. Nothing is rewritten: it is appended."""
    from kedro.io.core import Version, generate_timestamp

    from adapt_infinity.datasets.pool import PoolDataset
    from adapt_infinity.manifest import manifest_path, round_folder, write_manifest
    from adapt_infinity.pool.pool import removed_in_round
    from adapt_infinity.pool.pool import restore as bring_back

    chosen = Stream(stream, env)
    last = chosen.last
    kept = chosen.pool(str(last))
    if (round_ is None) == (not samples):
        raise click.ClickException("give either --round or --samples")
    try:
        ids = [int(part) for part in samples.split(",")] if samples else removed_in_round(kept, int(round_ or 0))
        reason = "asked for" if samples else f"the pruning of round {round_} was undone"
        restored = bring_back(kept, ids, last, reason)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if not len(ids):
        click.echo(f"round {round_} pruned nothing that is still out of the pool")
        return
    version = generate_timestamp()
    place = chosen.project / round_folder(chosen.name, last) / "kept_pool.json"
    PoolDataset(filepath=str(place), version=Version(None, version)).save(restored)
    manifest = chosen.manifest(last)
    amended = replace(manifest, versions={**manifest.versions, "kept_pool": version})
    write_manifest(manifest_path(chosen.project, chosen.name, last), amended)
    click.echo(f"{len(ids):,} samples restored; round {last + 1} starts from {len(restored):,} (version {version})")


@pool.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@click.option("--params", default="", callback=split_params, help="As in `kedro run`: pruning.pool_size=1000,…")
@click.option("--pairs", "shown", default=8, show_default=True, help="Pairs of samples to show.")
@of_a_stream
def prune(dry_run: bool, params: dict[str, Any], shown: int, stream: str, env: str | None) -> None:
    """What the last round would prune under other parameters, from the features and clusters that it left."""
    if not dry_run:
        raise click.ClickException("pruning belongs to the round, `kedro run`; --dry-run says what it would remove")
    from kedro.validation.exceptions import ParameterValidationError

    from adapt_infinity.pipelines.stages import entry_of
    from adapt_infinity.pruning.preview import pairs, reasons, totals
    from adapt_infinity.pruning.protection import must_keep_rows
    from adapt_infinity.strategies import load

    chosen = Stream(stream, env)
    try:
        catalog = chosen.catalog(chosen.last, params)
        asked, joined = catalog.load("params:pruning"), catalog.load("pool")
        listed = must_keep_rows(joined, asked.must_keep, asked.pool_size, chosen.project)
        keep = load(_strategy(chosen.manifest(chosen.last).pipeline)).keep
        read = signature(keep).parameters
        entries = {name: catalog.load(entry_of(name)) for name in read if name != "must_keep"}
        removals = keep(**entries, **({"must_keep": listed} if "must_keep" in read else {}))
    except (ValueError, ParameterValidationError) as error:
        raise click.ClickException(str(error)) from error
    rows, columns = joined.index, ["source", "skill"]
    if "clusters" in entries:
        rows, columns = rows.merge(entries["clusters"][["sample_id", "cluster"]]), [*columns, "cluster"]
    click.echo(
        f"{chosen.name}, round {chosen.last}: of {len(joined):,} samples {len(removals):,} would leave, "
        f"{len(joined) - len(removals):,} stay; {len(listed):,} are listed to be kept (nothing has been changed)"
    )
    for column in columns:
        show(totals(rows, removals, column))
    if len(removals):
        show(reasons(removals), "how similar to what they duplicate")
    for line in pairs(joined, removals, shown):
        click.echo(line)


def _strategy(pipeline: str) -> str:
    """Whose round it was."""
    return pipeline.removeprefix("round").removeprefix("_") or "adapt_inf"


@pool.command()
@of_a_stream
def verify(stream: str, env: str | None) -> None:
    """Read every part of every version of the pool, and compare it with the hash on record."""
    from adapt_infinity.datasets.pool import ENTRIES, faults

    chosen = Stream(stream, env)
    files = [file for name in ENTRIES for file in chosen.folder.glob(f"round_*/{name}/*/{name}")]
    parts: dict[str, dict[str, Any]] = {}
    for file in files:
        version = json.loads(file.read_text())
        parts |= {entry["file"]: entry for kind in ("shards", "ledger") for entry in version[kind]}
    found = list(faults(chosen.folder / "pool", {"shards": parts.values(), "ledger": ()}))
    for fault in found:
        click.echo(fault, err=True)
    if found:
        raise click.ClickException(f"{len(found)} of {len(parts)} parts are not what was written")
    click.echo(f"{len(parts)} parts of {len(files)} versions are what was written")

"""`kedro pool`: show the pool and its history, explain why a sample is in it or not, restore samples, verify files."""

import json
from dataclasses import replace
from inspect import signature
from typing import Any

import click

from adapt_infinity.cli._stream import Stream, print_table, stream_options
from adapt_infinity.kedro_internals import split_params


@click.group()
def pool() -> None:
    """Look into the present and past pools of a stream."""


@pool.command(name="show")
@stream_options
def show_pool(stream: str, env: str | None) -> None:
    """Show the size and the composition of the pool, by source, skill and cluster."""
    from adapt_infinity.pool.history import composition, summarise_clusters

    opened = Stream(stream, env)
    record = opened.records()[-1]
    click.echo(
        f"{opened.name} after round {record.number}: {len(record.kept_pool):,} of {record.kept_pool.size:,} samples"
    )
    print_table(composition(record.kept_pool, "source"))
    print_table(composition(record.kept_pool, "skill"))
    clusters = summarise_clusters(record)
    if len(clusters):
        print_table(clusters, f"clusters of round {record.number}")


@pool.command(name="history")
@stream_options
def show_history(stream: str, env: str | None) -> None:
    """Show one line per round, with the version of the pool that it left."""
    from adapt_infinity.pool import history

    opened = Stream(stream, env)
    print_table(history.history(opened.records()), opened.name, uncut="version")


@pool.command()
@click.argument("before")
@click.argument("after")
@stream_options
def diff(before: str, after: str, stream: str, env: str | None) -> None:
    """Show the samples that were added and removed from BEFORE to AFTER, each a round's number or a pool's version."""
    from adapt_infinity.pool.history import difference

    opened = Stream(stream, env)
    left, right = opened.pool(before), opened.pool(after)
    click.echo(f"{before}: {len(left):,} samples; {after}: {len(right):,} samples")
    print_table(difference(left, right))


@pool.command()
@click.argument("sample")
@stream_options
def why(sample: str, stream: str, env: str | None) -> None:
    """Explain the history of SAMPLE (its number, or source/id): arrival, scores, selection, and why it was removed."""
    from adapt_infinity.pool.history import find_sample, sample_history

    opened = Stream(stream, env)
    items = opened.catalog(opened.last).load("benchmark_items")
    records = opened.records()
    try:
        for line in sample_history(find_sample(records[-1].kept_pool, sample), records, items):
            click.echo(line)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@pool.command(name="restore")
@click.option("--round", "round_", type=int, help="Restore all samples that this round pruned.")
@click.option("--samples", default="", help="Numbers of the samples to restore: 3,17,42.")
@stream_options
def restore_samples(round_: int | None, samples: str, stream: str, env: str | None) -> None:
    """Restore pruned samples to the pool that the next round starts from. Files are only added, never changed."""
    from kedro.io.core import Version, generate_timestamp

    from adapt_infinity.datasets.pool import PoolDataset
    from adapt_infinity.manifest import manifest_path, round_folder, write_manifest
    from adapt_infinity.pool.pool import removed_in_round, restore

    opened = Stream(stream, env)
    last = opened.last
    kept = opened.pool(str(last))
    if (round_ is None) == (not samples):
        raise click.ClickException("give either --round or --samples")
    try:
        ids = [int(part) for part in samples.split(",")] if samples else removed_in_round(kept, int(round_ or 0))
        reason = "asked for" if samples else f"the pruning of round {round_} was undone"
        restored = restore(kept, ids, last, reason)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if not len(ids):
        click.echo(f"all samples that round {round_} pruned are in the pool")
        return
    version = generate_timestamp()
    path = opened.project / round_folder(opened.name, last) / "kept_pool.json"
    PoolDataset(filepath=str(path), version=Version(None, version)).save(restored)
    manifest = opened.manifest(last)
    amended = replace(manifest, versions={**manifest.versions, "kept_pool": version})
    write_manifest(manifest_path(opened.project, opened.name, last), amended)
    click.echo(f"{len(ids):,} samples restored; round {last + 1} starts from {len(restored):,} (version {version})")


@pool.command()
@click.option("--dry-run", is_flag=True, help="Only report what would be removed (required).")
@click.option("--params", default="", callback=split_params, help="As in `kedro run`: pruning.pool_size=1000,…")
@click.option("--pairs", "pair_count", default=8, show_default=True, help="Number of pairs of samples to show.")
@stream_options
def prune(dry_run: bool, params: dict[str, Any], pair_count: int, stream: str, env: str | None) -> None:
    """Show what the last round would prune with other parameters, from its own features and clusters."""
    if not dry_run:
        raise click.ClickException("only a round (`kedro run`) prunes the pool; --dry-run shows what it would remove")
    from kedro.validation.exceptions import ParameterValidationError

    from adapt_infinity.pipelines.stages import entry_of
    from adapt_infinity.pruning.preview import pairs, reasons, totals
    from adapt_infinity.pruning.protection import must_keep_rows
    from adapt_infinity.session import open_round
    from adapt_infinity.strategies import load

    opened = Stream(stream, env)
    try:
        catalog = open_round(opened.project, opened.name, opened.last, opened.env, params)  # checks the parameters
        pruning, joined = catalog.load("params:pruning"), catalog.load("pool")
        must_keep = must_keep_rows(joined, pruning.must_keep, pruning.pool_size, opened.project)
        keep = load(_strategy(opened.manifest(opened.last).pipeline)).keep
        read = signature(keep).parameters
        entries = {name: catalog.load(entry_of(name)) for name in read if name != "must_keep"}
        removals = keep(**entries, **({"must_keep": must_keep} if "must_keep" in read else {}))
    except (ValueError, ParameterValidationError) as error:
        raise click.ClickException(str(error)) from error
    rows, columns = joined.index, ["source", "skill"]
    if "clusters" in entries:
        rows, columns = rows.merge(entries["clusters"][["sample_id", "cluster"]]), [*columns, "cluster"]
    click.echo(
        f"{opened.name}, round {opened.last}: of {len(joined):,} samples {len(removals):,} would leave, "
        f"{len(joined) - len(removals):,} stay; {len(must_keep):,} are listed in must_keep (nothing has been changed)"
    )
    for column in columns:
        print_table(totals(rows, removals, column))
    if len(removals):
        print_table(reasons(removals), "similarity to the duplicated sample")
    for line in pairs(joined, removals, pair_count):
        click.echo(line)


def _strategy(pipeline: str) -> str:
    """The strategy of a round's pipeline."""
    return pipeline.removeprefix("round").removeprefix("_") or "adapt_inf"


@pool.command()
@stream_options
def verify(stream: str, env: str | None) -> None:
    """Read all parts of all versions of the pool and compare them with their recorded hashes."""
    from adapt_infinity.datasets.pool import ENTRIES, faults

    opened = Stream(stream, env)
    files = [file for name in ENTRIES for file in opened.folder.glob(f"round_*/{name}/*/{name}")]
    parts: dict[str, dict[str, Any]] = {}
    for file in files:
        version = json.loads(file.read_text())
        parts |= {entry["file"]: entry for kind in ("shards", "ledger") for entry in version[kind]}
    found = list(faults(opened.folder / "pool", {"shards": parts.values(), "ledger": ()}))
    for fault in found:
        click.echo(fault, err=True)
    if found:
        raise click.ClickException(f"{len(found)} of {len(parts)} parts are missing or altered")
    click.echo(f"{len(parts)} parts of {len(files)} versions are unchanged")

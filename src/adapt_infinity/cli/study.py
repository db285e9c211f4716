"""`kedro study`: strategies and methods side by side over seeds; one table, its figures, one page."""

import importlib.metadata
import re
import sys
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from kedro.framework.cli.utils import env_option
from omegaconf import OmegaConf

from adapt_infinity.kedro_internals import split_params
from adapt_infinity.study.grid import ZERO_SHOT, Cell, cells

if TYPE_CHECKING:
    from adapt_infinity.cli._cells import Work

NEXT_KEY = re.compile(r",(?=\s*[\w.]+\s*=)")  # so that commas within a list or a mapping stay


def _variants(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parameters by variant, each written NAME:PARAMS. Unlike those of `--params` they may be lists and mappings."""
    found = {}
    for words in given:
        name, _, params = words.partition(":")
        if not re.fullmatch("[a-z_0-9]+", name) or not re.match(r"[\w.]+\s*=", params):
            raise click.BadParameter(f"a variant is written name:a.b=c,d.e=f, got {words!r}", context, option)
        if name in found:
            raise click.BadParameter(f"variant {name!r} is given twice", context, option)
        parameters = OmegaConf.to_container(OmegaConf.from_dotlist(NEXT_KEY.split(params)))
        found[name] = cast(dict[str, Any], parameters)
    return found


@click.command()
@click.option(
    "--strategies",
    default="sequential,random,adapt_inf",
    show_default=True,
    help="name, name:arg, name+variant, name@1.5",
)
@click.option("--methods", default="finetune", show_default=True, help="Files in training/methods.")
@click.option("--seeds", default="0,1,2", show_default=True, help="A cell for each.")
@click.option("--last", default=0, help="The last round; default: that of the last arrival.")
@click.option("--name", default="study", show_default=True, help="Of the study, and of its streams' folders.")
@click.option("--against", default="random", show_default=True, help="The strategy that others are compared with.")
@click.option("--workers", default=2, show_default=True, help="Cells at a time; one thread and one GPU each.")
@click.option("--params", default="", callback=split_params, help="Further parameters, as for `kedro run`.")
@click.option("--variant", multiple=True, callback=_variants, help="NAME:PARAMS; what strategy+NAME sets. Repeatable.")
@click.option("--table", is_flag=True, help="Run nothing; make the page of what is there.")
@env_option
def study(
    strategies: str,
    methods: str,
    seeds: str,
    last: int,
    name: str,
    against: str,
    workers: int,
    params: dict[str, Any],
    variant: dict[str, dict[str, Any]],
    table: bool,
    env: str | None,
) -> None:
    """Run every STRATEGY with every METHOD and SEED over the stream, and compare them.

    Resumable: complete rounds are not run again. Results are in data/studies/<name>/.
    """
    from kedro.utils import find_kedro_project

    from adapt_infinity.cli._cells import Work, outcome
    from adapt_infinity.manifest import planned_rounds
    from adapt_infinity.reporting.tracking import TrackingParams, open_study
    from adapt_infinity.session import open_session
    from adapt_infinity.study import page
    from adapt_infinity.study.results import Plan

    project = find_kedro_project(Path.cwd())
    assert project is not None, "kedro offers this command inside a project only"
    try:
        grid = cells(_listed(strategies), _listed(methods), [int(seed) for seed in _listed(seeds)])
        check_names(grid, variant)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    session = open_session(project, env, params)
    declared = session.load_context().config_loader["parameters"]
    _, sources = session.sources()
    arriving = [source["name"] for source in sources if source.get("train")]
    plan = Plan(
        datasets={source: place for place, source in enumerate(arriving, start=1)},
        skills=planned_rounds(sources),
        rare=[skill for source in sources for skill in source.get("rare") or []],
        last=last or len(arriving),
    )
    session.make_data()
    run = open_study(TrackingParams(**declared["tracking"]), project, name)
    given = {**params, "tracking": {**params.get("tracking", {}), "parent": run.run_id}}
    folder = project / "data/studies" / name
    work = Work(project, env, name, plan.last, given, variant, declared["subset"]["budget"], folder / "logs")
    failed = {} if table else _run(work, grid, workers)
    outcomes = [found for cell in grid if (found := outcome(work, cell)) is not None]
    if not outcomes:
        raise click.ClickException(f"no cell of study {name!r} is complete; see {work.log}")
    command = " ".join(["kedro", *sys.argv[1:]])
    versions = {package: importlib.metadata.version(package) for package in ("adapt-infinity", "torch", "transformers")}
    facts: dict[str, Any] = {
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": versions,
        "cells": len(grid),
        "missing": len(grid) - len(outcomes),
    }
    made = page.write(folder, outcomes, plan, against, facts)
    run.log(made)
    click.echo(f"{len(outcomes)} of {len(grid)} cells; {folder.relative_to(project)}/study.md, study.html, table.csv")
    if failed:
        lines = [f"{stream}: {wrong}" for stream, wrong in failed.items()]
        raise click.ClickException(f"{len(failed)} cells failed; their logs are in {work.log}:\n" + "\n".join(lines))


def _run(work: "Work", grid: Sequence[Cell], workers: int) -> dict[str, str]:
    """Run what is missing, say so as cells end, and return what went wrong, by stream."""
    from adapt_infinity.cli._cells import WorkerLostError, run_cells

    begun, failed = time.perf_counter(), {}
    try:
        for number, (cell, seconds, wrong) in enumerate(run_cells(work, grid, workers), start=1):
            spent, stream = time.perf_counter() - begun, cell.stream(work.study)
            left = spent / number * (len(grid) - number)
            told = f"failed: {wrong}" if wrong else f"{seconds:.0f} s"
            click.echo(f"{number}/{len(grid)} {stream}: {told}; {spent / 60:.0f} min, {left / 60:.0f} to go")
            if wrong:
                failed[stream] = wrong
    except WorkerLostError as error:
        raise click.ClickException(str(error)) from error
    return failed


def _listed(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def check_names(grid: Sequence[Cell], variants: Collection[str] = ()) -> None:
    """`ValueError` for a strategy, method or variant that is none, before anything runs."""
    from adapt_infinity import strategies
    from adapt_infinity.training import methods

    for cell in grid:
        methods.load(cell.method)
        if cell.variant and cell.variant not in variants:
            raise ValueError(f"{cell.strategy!r} needs --variant {cell.variant}:parameters")
        if cell.data_strategy != ZERO_SHOT:
            strategies.presets(cell.data_strategy)

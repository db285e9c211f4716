"""`kedro study`: run and compare strategies and methods over several seeds; writes a table, figures and a page."""

import importlib.metadata
import re
import sys
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import click
from kedro.framework.cli.utils import env_option
from omegaconf import OmegaConf

from adapt_infinity.kedro_internals import split_params
from adapt_infinity.study.grid import ZERO_SHOT, Cell, cells

if TYPE_CHECKING:
    from adapt_infinity.cli._cells import StudySettings

NEXT_KEY = re.compile(r",(?=\s*[\w.]+\s*=)")  # a comma before `key=`, not one inside a list or a mapping


def _variants(context: click.Context, option: click.Parameter, given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Parse NAME:PARAMS of each --variant. Unlike those of --params, the values may be lists and mappings."""
    variants = {}
    for text in given:
        name, _, params = text.partition(":")
        if not re.fullmatch("[a-z_0-9]+", name) or not re.match(r"[\w.]+\s*=", params):
            raise click.BadParameter(f"a variant must have the form name:a.b=c,d.e=f, got {text!r}", context, option)
        if name in variants:
            raise click.BadParameter(f"variant {name!r} is given twice", context, option)
        parameters = OmegaConf.to_container(OmegaConf.from_dotlist(NEXT_KEY.split(params)))
        variants[name] = cast(dict[str, Any], parameters)
    return variants


@click.command()
@click.option(
    "--strategies",
    default="sequential,random,adapt_inf",
    show_default=True,
    help="name, name:arg, name+variant, name@1.5",
)
@click.option("--methods", default="finetune", show_default=True, help="Training methods: files in training/methods.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds; each gives one cell per strategy and method.")
@click.option("--last", default=0, help="The last round; default: the round of the last arrival.")
@click.option("--name", default="study", show_default=True, help="Name of the study, and prefix of its streams.")
@click.option("--against", default="random", show_default=True, help="The strategy with which the others are compared.")
@click.option(
    "--workers",
    default=2,
    show_default=True,
    help="Cells that run in parallel; one thread, one GPU each.",
)
@click.option("--params", default="", callback=split_params, help="Further parameters, as for `kedro run`.")
@click.option("--variant", multiple=True, callback=_variants, help="NAME:PARAMS of strategy+NAME; repeatable.")
@click.option("--table", is_flag=True, help="Run nothing; write the page of the complete cells.")
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
    """Run every strategy with every method and seed over the stream, and compare them.

    Complete rounds are not run again, so a stopped study can be continued. Results are in data/studies/<name>/.
    """
    from adapt_infinity.cli._cells import StudySettings, load_outcome
    from adapt_infinity.cli._stream import current_project
    from adapt_infinity.manifest import planned_rounds
    from adapt_infinity.reporting.tracking import TrackingParams, open_study
    from adapt_infinity.session import open_session
    from adapt_infinity.strategies import merged
    from adapt_infinity.study import page
    from adapt_infinity.study.results import Plan

    project = current_project()
    try:
        grid = cells(_split(strategies), _split(methods), [int(seed) for seed in _split(seeds)])
        check_names(grid, variant)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    session = open_session(project, env, params)
    try:
        for changes in ({}, *variant.values()):  # before a cell finds it, hours later
            open_session(project, env, merged(params, changes)).check_parameters()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    declared = session.load_context().config_loader["parameters"]
    _, sources = session.sources()
    arriving = [source["name"] for source in sources if source.get("train")]
    plan = Plan(
        datasets={source: round for round, source in enumerate(arriving, start=1)},
        skills=planned_rounds(sources),
        rare=[skill for source in sources for skill in source.get("rare") or []],
        last=last or len(arriving),
    )
    session.make_data()
    run = open_study(TrackingParams(**declared["tracking"]), project, name)
    given = {**params, "tracking": {**params.get("tracking", {}), "parent": run.run_id}}
    folder = project / "data/studies" / name
    budget = declared["subset"]["budget"]
    settings = StudySettings(project, env, name, plan.last, given, variant, budget, folder / "logs")
    failed = {} if table else _run(settings, grid, workers)
    outcomes = [outcome for cell in grid if (outcome := load_outcome(settings, cell)) is not None]
    if not outcomes:
        raise click.ClickException(f"no cell of study {name!r} is complete; see {settings.log}")
    command = " ".join(["kedro", *sys.argv[1:]])
    versions = {package: importlib.metadata.version(package) for package in ("adapt-infinity", "torch", "transformers")}
    facts: dict[str, Any] = {
        "command": command,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": versions,
        "cells": len(grid),
        "missing": len(grid) - len(outcomes),
    }
    run.log(page.write(folder, outcomes, plan, against, facts))
    click.echo(f"{len(outcomes)} of {len(grid)} cells; {folder.relative_to(project)}/study.md, study.html, table.csv")
    if failed:
        lines = [f"{stream}: {error}" for stream, error in failed.items()]
        raise click.ClickException(f"{len(failed)} cells failed; logs are in {settings.log}:\n" + "\n".join(lines))


def _run(settings: "StudySettings", grid: Sequence[Cell], workers: int) -> dict[str, str]:
    """Run the missing rounds, print a line for each cell that ends, and return the error messages by stream."""
    from adapt_infinity.cli._cells import WorkerLostError, run_cells

    started, failed = time.perf_counter(), {}
    try:
        for number, (cell, seconds, error) in enumerate(run_cells(settings, grid, workers), start=1):
            spent, stream = time.perf_counter() - started, cell.stream(settings.study)
            left = spent / number * (len(grid) - number)
            result = f"failed: {error}" if error else f"{seconds:.0f} s"
            click.echo(f"{number}/{len(grid)} {stream}: {result}; {spent / 60:.0f} min, {left / 60:.0f} min left")
            if error:
                failed[stream] = error
    except WorkerLostError as lost:
        raise click.ClickException(str(lost)) from lost
    return failed


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def check_names(grid: Sequence[Cell], variants: Collection[str] = ()) -> None:
    """Check that the strategies, methods and variants of all cells exist; ValueError otherwise."""
    from adapt_infinity import strategies
    from adapt_infinity.training import methods

    for cell in grid:
        methods.load(cell.method)
        if cell.variant and cell.variant not in variants:
            raise ValueError(f"{cell.strategy!r} needs --variant {cell.variant}:parameters")
        if cell.data_strategy != ZERO_SHOT:
            strategies.presets(cell.data_strategy)
